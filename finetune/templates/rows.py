"""A rendered conversation as ids: cut at the template's control tokens, and each stretch between them encoded whole.

A template's line break and the first blank of what a user says may be one token, so what stands between two control
tokens is encoded as one plain text. What a message says can hold no control token, whatever its letters. Where a prompt
would end inside a token, the text is cut there, as a server cuts it that is given the prompt and continues.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tokenizers import Encoding, Tokenizer

Span = tuple[int, int, int]
"""Start and end of a control token in a text, and its id."""


@dataclass(frozen=True)
class Row:
    """One text to be encoded, and what of it is learned."""

    text: str
    controls: Sequence[Span]
    """In their order, none over another."""
    learned: Sequence[tuple[int, int]]
    """Stretches of the text that are learned, each behind a prompt that ends where it begins."""
    given: Sequence[tuple[int, int]] = ()
    """Stretches inside what is learned that somebody else says: each is encoded by itself, and not learned."""
    weights: Sequence[float] = ()
    """How much each stretch that is learned counts in the loss, from 0 to 1; none where each counts 1."""


@dataclass(frozen=True)
class EncodedRow:
    """The ids of a row."""

    ids: list[int]
    weights: list[float]
    """How much each id counts in the loss; 0 where it is not learned."""
    places: list[int]
    """Where in the text each id begins; nothing unless asked for."""
    prompts_inside_a_token: int
    """How many prompts end inside a token of the text: where it is not cut, the ids do not begin with the prompt's."""


def encode_rows(
    rows: Sequence[Row], encoder: Tokenizer, *, cut_prompts: bool = False, places: bool = False
) -> list[EncodedRow]:
    """The ids of every row; with `cut_prompts` a text is cut where a prompt would end inside a token."""
    pieces = [list(_pieces(row)) for row in rows]
    heads = [
        row.text[start:edge]
        for row, stretches in zip(rows, pieces, strict=True)
        for start, end in stretches
        if (edge := _edge_in(row, start, end)) is not None
    ]
    texts = (row.text[start:end] for row, stretches in zip(rows, pieces, strict=True) for start, end in stretches)
    distinct = list(dict.fromkeys([*heads, *texts]))
    encodings = encoder.encode_batch(distinct, add_special_tokens=False)
    assembly = _Assembly(encoder, dict(zip(distinct, encodings, strict=True)), cut_prompts, places)
    return [assembly.put_together(row, stretches) for row, stretches in zip(rows, pieces, strict=True)]


def _pieces(row: Row) -> Iterable[tuple[int, int]]:
    """The stretches between control tokens, those that are given apart."""
    spans = [*((start, end) for start, end, _ in row.controls), *row.given]
    edges = sorted({0, len(row.text), *(edge for span in spans for edge in span)})
    taken = {start for start, _, _ in row.controls}
    for start, end in pairwise(edges):
        if start not in taken:
            yield start, end


def _edge_in(row: Row, start: int, end: int) -> int | None:
    """Where inside a stretch a prompt ends."""
    return next((edge for edge, _ in row.learned if start < edge < end), None)


@dataclass(frozen=True)
class _Assembly:
    """Rows put together from texts that are encoded."""

    encoder: Tokenizer
    encodings: Mapping[str, Encoding]
    cut_prompts: bool
    places: bool

    def put_together(self, row: Row, stretches: Sequence[tuple[int, int]]) -> EncodedRow:
        whole = EncodedRow([], [], [], 0)
        inside = 0
        parts = sorted([*((start, end, -1) for start, end in stretches), *row.controls])
        for start, end, control in parts:
            edge = None if control >= 0 else _edge_in(row, start, end)
            if control >= 0:
                self._add(whole, [control], [start], _weight_at(row, start))
            elif edge is None:
                self._add(whole, *self._encoded(row.text[start:end], start), _weight_at(row, start))
            else:
                ids, at = self._encoded(row.text[start:end], start)
                head, head_at = self._encoded(row.text[start:edge], start)
                is_inside = ids[: len(head)] != head
                inside += is_inside
                if is_inside and self.cut_prompts:
                    tail, tail_at = self._encoded(row.text[edge:end], edge)
                    ids, at = head + tail, head_at + tail_at
                self._add(whole, ids[: len(head)], at[: len(head)], 0.0)
                self._add(whole, ids[len(head) :], at[len(head) :], _weight_at(row, edge))
        return replace(whole, prompts_inside_a_token=inside)

    def _encoded(self, text: str, start: int) -> tuple[list[int], list[int]]:
        """The ids of a text that begins at `start`, and where each begins."""
        encoding = self.encodings.get(text) or self.encoder.encode(text, add_special_tokens=False)
        return encoding.ids, [start + begin for begin, _ in encoding.offsets] if self.places else []

    def _add(self, whole: EncodedRow, ids: list[int], places: list[int], weight: float) -> None:
        whole.ids.extend(ids)
        whole.weights.extend([weight] * len(ids))
        if self.places:
            whole.places.extend(places)


def _weight_at(row: Row, place: int) -> float:
    if any(start <= place < end for start, end in row.given):
        return 0.0
    inside = (number for number, (start, end) in enumerate(row.learned) if start <= place < end)
    number = next(inside, None)
    return 0.0 if number is None else row.weights[number] if row.weights else 1.0
