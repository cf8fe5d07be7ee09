"""Texts to be scored: conversations as JSON lines or lines of text, pasted or in a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs import InputError
from finetune.conversations.formats import each_conversation, to_conversation
from finetune.conversations.messages import Message
from finetune.files.records import parse_record
from scratch_models.corpus.text_files import read_text

MOST_LETTERS = 1_000_000
"""Of pasted text."""


@dataclass(frozen=True)
class GivenText:
    """One text, and what was said before it."""

    source: str
    messages: tuple[Message, ...]
    text: str


def pasted_texts(pasted: str) -> Iterator[GivenText]:
    r"""Each line: a conversation where it begins with a brace, of which the last reply is the text; else the text.

    >>> [one.text for one in pasted_texts('Hello\n\n{"question": "Half of 48?", "answer": "24"}')]
    ['Hello', '24']

    Raises:
        InputError: a line is no conversation, or it is too long.
    """
    if len(pasted) > MOST_LETTERS:
        raise InputError(f"texts: found {len(pasted):,} letters, expected at most {MOST_LETTERS:,}: upload a file")
    for number, line in enumerate(pasted.splitlines(), 1):
        place = f"line {number}"
        if line.lstrip().startswith("{"):
            conversation = to_conversation(parse_record(place, line.encode()), place)
            yield from _last_reply(place, conversation.messages)
        elif line.strip():
            yield GivenText(place, (), line.strip())


def texts_of_file(path: Path, name: str, *, is_text: bool) -> Iterator[GivenText]:
    """The last reply of each conversation of a file, or each paragraph of a text.

    Raises:
        InputError: it cannot be read.
    """
    if is_text:
        paragraphs = read_text(str(path)).split("\n\n")
        for number, paragraph in enumerate(paragraphs, 1):
            if paragraph.strip():
                yield GivenText(f"{name}, paragraph {number}", (), paragraph.strip())
        return
    for number, conversation in enumerate(each_conversation(str(path)), 1):
        yield from _last_reply(f"{name}, record {number}", conversation.messages)


def _last_reply(source: str, messages: tuple[Message, ...]) -> Iterator[GivenText]:
    place = next((place for place in reversed(range(len(messages))) if messages[place].role == "assistant"), None)
    text = "" if place is None else messages[place].content
    yield GivenText(source, messages[: place or 0], text)
