"""How every chat format renders many conversations: some hundred at a time, so that any number of them can be.

While the texts of some are encoded, which needs no Python, those before them are put together and those after them
written out. What a run wants to know of each row is counted here, where row and conversation are at hand.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

from finetune.chat.rendered import ROW_FACTS, RenderedSet
from finetune.conversations.formats import Conversation

CONVERSATIONS_AT_ONCE = 256

Texts = TypeVar("Texts")
Ids = TypeVar("Ids")


class Renderer(Protocol[Texts, Ids]):
    """The three parts of rendering some conversations."""

    def write(self, conversations: Sequence[Conversation]) -> Texts:
        """The texts of them."""

    def encode(self, texts: Texts) -> Ids:
        """The ids of the texts."""

    def put_together(self, texts: Texts, ids: Ids) -> RenderedSet:
        """The rows; `sources` count the conversations from 0."""


def render_in_parts(
    renderer: Renderer[Texts, Ids], conversations: Iterable[Conversation], stop_ids: Sequence[int]
) -> Iterator[RenderedSet]:
    """The rows of the conversations, some hundred conversations at a time, with what is counted of each row."""
    waiting: deque[tuple[list[Conversation], Texts, Future[Ids]]] = deque()
    rendered = 0

    def finish_first() -> RenderedSet:
        nonlocal rendered
        chunk, texts, ids = waiting.popleft()
        part = renderer.put_together(texts, ids.result())
        part.facts = count_facts(part, chunk, stop_ids)
        part.sources = part.sources + rendered
        rendered += len(chunk)
        return part

    remaining = iter(conversations)
    with ThreadPoolExecutor(max_workers=1) as thread:
        while chunk := list(islice(remaining, CONVERSATIONS_AT_ONCE)):
            texts = renderer.write(chunk)
            waiting.append((chunk, texts, thread.submit(renderer.encode, texts)))
            if len(waiting) > 1:
                yield finish_first()
        while waiting:
            yield finish_first()


def count_facts(rendered: RenderedSet, conversations: Sequence[Conversation], stop_ids: Sequence[int]) -> np.ndarray:
    """What is counted of each row, (N,) of `ROW_FACTS`; the rows are all of those of the conversations."""
    facts: np.ndarray = np.zeros(len(rendered), dtype=ROW_FACTS)
    turns = turns_of_rows(rendered, conversations)
    facts["turns"] = [len(said) for said in turns]
    facts["said_bytes"] = [sum(len(text.encode()) for text in said) for said in turns]
    facts["supervised"] = rendered.count_supervised()
    facts["ends"] = sum(rendered.count_supervised(id_) for id_ in stop_ids)
    if rendered.weights is not None:
        partly = rendered.supervised & (rendered.weights < 1)
        of_partly = RenderedSet(rendered.input_ids, partly, rendered.starts, rendered.lengths)
        facts["partly_learned_ends"] = sum(of_partly.count_supervised(id_) for id_ in stop_ids)
    return facts


def turns_of_rows(rendered: RenderedSet, conversations: Sequence[Conversation]) -> list[list[str]]:
    """What the assistant says in each row that is learned: in all of a conversation, or in one reply of it."""
    rows_of = np.bincount(rendered.sources, minlength=len(conversations)).tolist()
    turns: list[list[str]] = []
    for conversation, rows in zip(conversations, rows_of, strict=True):
        said = [one.said() for one in conversation.messages if one.role == "assistant" and one.learned]
        turns += [said] if rows == 1 else [[text] for text in said[len(said) - rows :]]
    return turns
