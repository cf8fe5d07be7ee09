"""Rows whose text is encoded as a whole, by the tokenizer itself, and cut at its control tokens afterwards.

So the ids are the tokenizer's own. It is done where nobody but the template writes the letters of a control token: then
the tokenizer finds in the text the control tokens that are in the row, and no other.
"""

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from finetune.templates.rows import EncodedRow, Row, encode_rows
from tokenizer_ext.huggingface.plain_text import plain_text_encoder


class RowEncoder:
    """The rows of a template in the ids of its tokenizer; `pattern` finds the control tokens in a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, pattern: re.Pattern[str]) -> None:
        self.tokenizer, self.pattern = tokenizer, pattern
        self._plain_text = plain_text_encoder(tokenizer)
        self._heads: dict[str, list[int]] = {}

    def encode(self, rows: Sequence[Row], *, cut_prompts: bool = False, places: bool = False) -> list[EncodedRow]:
        """The ids of each row, those of the tokenizer itself wherever nobody writes the letters of a control token.

        With `cut_prompts` a text is cut where a prompt would end inside a token; with `places` each id's is told.
        """
        found: list[EncodedRow | None] = [None] * len(rows)
        if not places:
            clean = [number for number, row in enumerate(rows) if not row.given and not self._holds_forged(row)]
            texts = [rows[number].text for number in clean]
            theirs = self.tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for number, encoding in zip(clean, theirs, strict=True):
                heads = [self._head(text) for text in heads_of(rows[number])]
                found[number] = cut_whole(rows[number], encoding.ids, heads)
        others = [number for number, row in enumerate(found) if row is None]
        pieces = [rows[number] for number in others]
        encoded = encode_rows(pieces, self._plain_text, cut_prompts=cut_prompts, places=places)
        for number, row in zip(others, encoded, strict=True):
            found[number] = row
        return [row for row in found if row is not None]

    def _holds_forged(self, row: Row) -> bool:
        return len(self.pattern.findall(row.text)) > len(row.controls)

    def _head(self, text: str) -> list[int]:
        if text not in self._heads:
            self._heads[text] = self._plain_text.encode(text, add_special_tokens=False).ids
        return self._heads[text]


def heads_of(row: Row) -> list[str]:
    """What stands between a control token and the place where a prompt ends, for each prompt."""
    ends = [0, *(end for _, end, _ in row.controls)]
    return [row.text[max(end for end in ends if end <= start) : start] for start, _ in row.learned]


def cut_whole(row: Row, ids: list[int], heads: Sequence[Sequence[int]]) -> EncodedRow | None:
    """The row from the ids of its whole text; `heads` are the ids of what `heads_of` gives.

    None where the control tokens are not where they should be, or a prompt ends inside a token.
    """
    places = _find_controls(row, ids)
    if places is None:
        return None
    weights = [0.0] * len(ids)
    ends = {end: number for number, (_, end, _) in enumerate(row.controls)}
    for number, (head, (start, end)) in enumerate(zip(heads, row.learned, strict=True)):
        before = sum(1 for _, control_end, _ in row.controls if control_end <= start)
        first = (places[before - 1] + 1 if before else 0) + len(head)
        if end not in ends or ids[first - len(head) : first] != list(head):
            return None
        last = places[ends[end]] + 1
        weights[first:last] = [row.weights[number] if row.weights else 1.0] * (last - first)
    return EncodedRow(ids, weights, [], 0)


def _find_controls(row: Row, ids: list[int]) -> list[int] | None:
    """Where in the ids each control token of the row is; None where there are others, or not all."""
    wanted = {id_ for _, _, id_ in row.controls}
    if sum(map(wanted.__contains__, ids)) != len(row.controls):
        return None
    places = [place for place, id_ in enumerate(ids) if id_ in wanted]
    in_order = all(ids[place] == id_ for place, (_, _, id_) in zip(places, row.controls, strict=True))
    return places if in_order else None
