"""Two served models over one text, scored side by side with the weights that the pool holds.

Nothing of a model is copied: what runs here reads weights, beside the batch that answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from configs import InputError
from finetune.conversations.messages import Message
from finetune.decoding.all_logits import all_logits
from finetune.evaluation.text_difference import Reading, TextDifference, compare_readings
from finetune.serving.put_texts import PutText, put_text
from finetune.serving.served_model import ServedModel
from tokenizer_ext.huggingface.hf_model import positions_of

MOST_TOKENS = 2048
"""Ids of a prompt and the text behind it."""


@dataclass(frozen=True)
class ScoredText:
    """A text with what both make of it."""

    difference: TextDifference
    base: PutText
    tuned: PutText


@dataclass(frozen=True)
class ModelPair:
    """Two models that are compared."""

    base: ServedModel
    tuned: ServedModel

    @cached_property
    def share_ids(self) -> bool:
        """Whether every id that both know is the same token to both."""
        first, second = self.base.side.tokenizer, self.tuned.side.tokenizer
        if first is second:
            return True
        fewer, more = sorted((first.get_vocab(), second.get_vocab()), key=len)
        return all(more.get(token) == id_ for token, id_ in fewer.items())

    def score(self, messages: Sequence[Message], text: str, prompt_format: str) -> ScoredText:
        """A text behind messages, as both score it.

        Raises:
            InputError: a model cannot be put in this prompt format, or it is too long.
        """
        base = put_text(self.base, messages, text, prompt_format)
        return self.score_ids(base, put_text(self.tuned, messages, text, prompt_format))

    def score_ids(self, base: PutText, tuned: PutText) -> ScoredText:
        """A text of which the ids are known.

        Raises:
            InputError: it is too long.
        """
        readings = (_reading(self.base, base, "base"), _reading(self.tuned, tuned, "tuned"))
        return ScoredText(compare_readings(*readings, share_ids=self.share_ids), base, tuned)


class TooLong(InputError):
    """A text of more tokens than are scored."""


def check_length(model: ServedModel, ids: int, where: str) -> None:
    """Refuses a text that is longer than is scored.

    Raises:
        TooLong: it is.
    """
    positions = positions_of(model.side.model)
    most = min(MOST_TOKENS, positions or MOST_TOKENS)
    if ids > most:
        raise TooLong(f"text: found {ids:,} tokens of {where} with its prompt, expected at most {most:,}: shorten it")


def _reading(model: ServedModel, put: PutText, where: str) -> Reading:
    """The text as one model reads it; its logits are computed as they are asked for."""
    if not put.ids:
        raise InputError("text: becomes 0 tokens, expected at least one")
    check_length(model, len(put.prompt_ids) + len(put.ids), where)
    pieces = [bytes(model.texts.of(id_)[1]) for id_ in put.ids]
    ids = [*put.prompt_ids, *put.ids][:-1]  # nothing of the text follows its last id
    first = max(0, len(put.prompt_ids) - 1)
    logits = all_logits(model.side.model, model.adapter, ids, first=first) if ids else ()
    return Reading(put.ids, pieces, logits, 0 if put.prompt_ids else 1, put.given)
