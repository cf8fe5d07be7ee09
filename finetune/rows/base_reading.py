"""The base inside an extended model: it reads text in its own ids and scores only those.

Old rows are the base's bit for bit, and a new token stands for certain ids of the base. So what the base makes of a
text is known without a second model in memory: with new tokens put back into their parts and new rows left out of the
scores, the extended model is its base.

Shapes: B rows, T tokens of a row in extended ids, S supervised positions, D width.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.packing import Row, pad
from finetune.losses.chunked_cross_entropy import summed_cross_entropy
from finetune.losses.head import Segment
from finetune.losses.token_losses import segment_losses
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch
from tokenizer_ext.bpe.merge_learning import base_ids
from tokenizer_ext.embeddings.extended_tables import ExtendedHead
from tokenizer_ext.huggingface.hf_tokenizer import merges_from

CHUNK = 256  # positions whose logits are in memory at once
Parts = Mapping[int, Sequence[int]]
"""New id -> the ids of the base that it stands for; a control token stands for none and is not in it."""


def read_parts(tokenizer: PreTrainedTokenizerFast, first_new_id: int) -> dict[int, list[int]]:
    """The parts of every new token that merges make."""
    merges = merges_from(tokenizer, first_new_id)
    return dict(zip((merge.token for merge in merges), base_ids(merges), strict=True))


class BaseLoss(nn.Module):
    """The summed loss of the base on micro-batches in its own ids."""

    def __init__(self, model: PreTrainedModel, first_new_id: int) -> None:
        super().__init__()
        self.model, self.first_new_id = model, first_new_id

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of the targets that are not -100: two of (B, T) -> ()."""
        hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state  # (B, T, D)
        supervised = targets != IGNORED_TARGET  # (B, T)
        old_rows = old_segment(self.model, self.first_new_id)
        return summed_cross_entropy(hidden[supervised], targets[supervised], [old_rows])


def old_segment(model: PreTrainedModel, first_new_id: int) -> Segment:
    """Weight and bias of the head for the base's ids, frozen."""
    head = model.get_output_embeddings()
    head = head.head if isinstance(head, ExtendedHead) else head
    bias = None if head.bias is None else head.bias.detach()[:first_new_id]
    return head.weight.detach()[:first_new_id], bias


def in_base_ids(micro_batch: MicroBatch, parts: Parts, longest: int | None) -> MicroBatch:
    """The same text, with the same bytes supervised, in the ids of the base.

    A row that grows longer than the base can read, which is `longest`, goes on in a row of its own.
    """
    rows = [
        _expanded(ids, targets, parts)
        for ids, targets in zip(micro_batch["input_ids"].tolist(), micro_batch["targets"].tolist(), strict=True)
    ]
    return pad([part for row in rows for part in _cut(row, longest)])


def read_ids(ids: Sequence[int], targets: Sequence[int]) -> list[int]:
    """What is read of a row: all up to the last place that learns something, without the filling.

    >>> read_ids([5, 6, 7, 0], [-100, 7, -100, -100])
    [5, 6]
    """
    learned = [place for place, target in enumerate(targets) if target != IGNORED_TARGET]
    return list(ids[: learned[-1] + 1 if learned else 1])


def _expanded(ids: Sequence[int], targets: Sequence[int], parts: Parts) -> Row:
    """Ids and targets of one row.

    >>> _expanded([1, 9, 2], [9, 2, -100], {9: [4, 5]})
    ([1, 4, 5, 2], [4, 5, 2, -100])
    """
    base: list[int] = []
    supervised: list[bool] = []
    for place, id_ in enumerate([*ids, targets[-1]]):
        of_id = parts.get(id_, (id_,))
        base += of_id
        supervised += [place > 0 and targets[place - 1] != IGNORED_TARGET] * len(of_id)
    # What a first token has beyond its first part was read, not predicted, in extended ids: so it is here.
    following = zip(base[1:], supervised[1:], strict=True)
    return base[:-1], [id_ if learned else IGNORED_TARGET for id_, learned in following]


def _cut(row: Row, longest: int | None) -> list[Row]:
    longest = longest or len(row[0])
    starts = range(0, len(row[0]), longest)
    return [(row[0][start : start + longest], row[1][start : start + longest]) for start in starts]


def old_log_probabilities(segment: Segment, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target among the base's ids: (S, D) and (S,) -> (S,)."""
    return -segment_losses(hidden, targets, [segment], CHUNK)
