"""A rendered conversation as ids: cut at the control tokens that the template wrote, each stretch between encoded whole.

A template's line break and the first blank of what a user says may be one token, so what stands between two control
tokens is encoded as one plain text. What a message says can hold no control token, whatever its letters. Where a prompt
would end inside a token, the text is cut there, as a server cuts it that is given the prompt and continues.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

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
    cuts: Sequence[int] = ()
    """Places where the text is cut besides."""
    given: Sequence[tuple[int, int]] = field(default=())
    """Stretches inside what is learned that are not: between cuts."""


@dataclass(frozen=True)
class EncodedRow:
    """The ids of a row."""

    ids: list[int]
    learned: list[bool]
    places: list[int]
    """Where in the text each id begins."""
    prompts_inside_a_token: int
    """How many prompts end inside a token of the text: where it is not cut, the ids do not begin with the prompt's."""


def encode_rows(rows: Sequence[Row], encoder: Tokenizer, *, cut_prompts: bool) -> list[EncodedRow]:
    """The ids of every row; with `cut_prompts` a text is cut where a prompt would end inside a token."""
    pieces = [list(_pieces(row)) for row in rows]
    heads = [
        row.text[start:place]
        for row, stretches in zip(rows, pieces, strict=True)
        for start, end in stretches
        for place, _ in row.learned
        if start < place < end
    ]
    texts = (row.text[start:end] for row, stretches in zip(rows, pieces, strict=True) for start, end in stretches)
    encoded = _Encoded(encoder, [*heads, *texts])
    return [
        _assemble(row, stretches, encoded, cut_prompts) for row, stretches in zip(rows, pieces, strict=True)
    ]


class _Encoded:
    """Texts with their ids, each encoded once."""

    def __init__(self, encoder: Tokenizer, texts: Iterable[str]) -> None:
        self.encoder = encoder
        distinct = list(dict.fromkeys(texts))
        self.of_text = dict(zip(distinct, encoder.encode_batch(distinct, add_special_tokens=False), strict=True))

    def __getitem__(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and where each begins."""
        encoding = self.of_text.get(text) or self.encoder.encode(text, add_special_tokens=False)
        return encoding.ids, [start for start, _ in encoding.offsets]


def _pieces(row: Row) -> Iterable[tuple[int, int]]:
    """The stretches between control tokens and cuts."""
    edges = sorted({0, len(row.text), *row.cuts, *(edge for start, end, _ in row.controls for edge in (start, end))})
    taken = {start for start, _, _ in row.controls}
    for start, end in zip(edges, edges[1:], strict=False):
        if start not in taken:
            yield start, end


def _assemble(
    row: Row, stretches: Sequence[tuple[int, int]], encoded: _Encoded, cut_prompts: bool
) -> EncodedRow:
    ids: list[int] = []
    places: list[int] = []
    learned: list[bool] = []
    inside = 0
    parts = sorted([(start, end, None) for start, end in stretches] + [(*span,) for span in row.controls])
    for start, end, control in parts:
        if control is not None:
            ids.append(control)
            places.append(start)
            learned.append(_is_learned(row, start))
            continue
        edge = next((place for place, _ in row.learned if start < place < end), None)
        found, at = encoded[row.text[start:end]]
        if edge is not None:
            head, head_at = encoded[row.text[start:edge]]
            if found[: len(head)] != head:
                inside += 1
                if cut_prompts:
                    tail, tail_at = encoded[row.text[edge:end]]
                    found, at = head + tail, head_at + [place + edge - start for place in tail_at]
            flags = [False] * len(head) + [_is_learned(row, edge)] * (len(found) - len(head))
        else:
            flags = [_is_learned(row, start)] * len(found)
        ids += found
        places += [start + place for place in at]
        learned += flags
    return EncodedRow(ids, learned, places, inside)


def _is_learned(row: Row, place: int) -> bool:
    return any(start <= place < end for start, end in row.learned) and not any(
        start <= place < end for start, end in row.given
    )
