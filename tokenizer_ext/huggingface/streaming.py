"""Ids to text as they come, without splitting a character."""

from collections.abc import Callable

_UNFINISHED = "\ufffd"  # what decoders write for bytes that are no character, or not yet one


class TextStream:
    r"""Turns ids into text one at a time; all that it returned, joined, is `decode` of all the ids.

    A character may take several tokens, so text that ends in an unfinished one is held back until it is complete. Some
    decoders also write a token differently at the start of a text, so each piece is decoded after the one before it.

    `decode` takes a list of ids; whether it drops special tokens is the caller's choice. It must not tidy up spaces.

    >>> letters = {0: b"\xc3", 1: b"\xa9", 2: b"!"}
    >>> stream = TextStream(lambda ids: b"".join([letters[id_] for id_ in ids]).decode(errors="replace"))
    >>> [stream.push(0), stream.push(1), stream.push(2), stream.push(0), stream.flush()]
    ['', 'é', '!', '', '�']
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._before: list[int] = []  # ids whose text is out and that the next text is decoded after
        self._held: list[int] = []
        self._shown = ""  # the text of `_before`, and of `_held` as far as it is out

    def push(self, id_: int) -> str:
        """The text that `id_` completes, which may be none."""
        self._held.append(id_)
        text = self._decode(self._before + self._held)
        settled = text.rstrip(_UNFINISHED)
        new_text = settled[len(self._shown) :]
        if settled == text and new_text:
            self._before, self._held = self._held, []
            self._shown = self._decode(self._before)
        elif new_text:
            self._shown = settled
        return new_text

    def flush(self) -> str:
        """What is still held back, with U+FFFD for bytes that never became a character. The stream starts afresh."""
        text = self._decode(self._before + self._held)[len(self._shown) :]
        self._before, self._held, self._shown = [], [], ""
        return text
