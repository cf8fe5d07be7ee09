"""Text of a reply that grows id by id: whole characters only, and nothing that may turn out to be a stop text."""

from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerFast

from finetune.serving.reply_request import TokenScore
from tokenizer_ext.inspection.pieces import PieceBytes

UNFINISHED = "\ufffd"
"""What decoders write for bytes that are not yet a character."""


class TokenTexts:
    """What the ids of one tokenizer stand for."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.backend = tokenizer.backend_tokenizer
        self.bytes = PieceBytes(tokenizer)
        self.of = lru_cache(maxsize=1 << 16)(self._of)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))

    def _of(self, id_: int) -> tuple[str, tuple[int, ...]]:
        """The text and the bytes of one id, as it stands within a text; neither for an id without a token."""
        found = self.bytes.of(id_)
        return found.decode(errors="replace"), tuple(found)


class ReplyText:
    """The text of one reply.

    What is released, put end to end, is the decoder's text of all ids, up to where a stop text begins.
    """

    def __init__(self, texts: TokenTexts, stop_texts: Sequence[str] = ()) -> None:
        self.texts, self.stop_texts = texts, tuple(stop_texts)
        self.stopped = False
        """Whether a stop text came."""
        self._ids: list[int] = []
        self._shown = 0  # ids whose text is known lie before it; it is decoded together with the stretch before it,
        self._before = 0  # which begins here: what an id reads as can depend on the one before
        self._held = ""
        self._scores: list[tuple[int, TokenScore]] = []  # with where in what is held their text begins

    def add(self, id_: int, score: TokenScore | None = None) -> tuple[str, tuple[TokenScore, ...]]:
        """The text that is certain now and was not before, and the scores of the ids whose text it is."""
        self._ids.append(id_)
        if score is not None:
            self._scores.append((len(self._held), score))
        self._decode()
        return self._release(self._certain())

    def finish(self) -> tuple[str, tuple[TokenScore, ...]]:
        """The rest: no id follows."""
        if self.stopped:
            return "", ()
        self._decode(is_last=True)
        certain = self._certain()
        return self._release(certain if self.stopped else len(self._held))

    def _decode(self, *, is_last: bool = False) -> None:
        known = self.texts.decode(self._ids[self._before : self._shown])
        text = self.texts.decode(self._ids[self._before :])
        if is_last or not text.endswith(UNFINISHED):
            self._held += text[len(known) :]
            self._before, self._shown = self._shown, len(self._ids)

    def _certain(self) -> int:
        """How many characters of what is held can be released."""
        places = [place for stop in self.stop_texts if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            return min(places)
        longest = max(map(len, self.stop_texts), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self.stop_texts):
                return len(self._held) - length
        return len(self._held)

    def _release(self, count: int) -> tuple[str, tuple[TokenScore, ...]]:
        text, self._held = self._held[:count], self._held[count:]
        is_known = self._shown == len(self._ids)
        freed = [score for start, score in self._scores if start < count or (is_known and not self._held)]
        self._scores = [(max(0, start - count), score) for start, score in self._scores[len(freed) :]]
        return text, tuple(freed)
