"""What the training loop reads: micro-batches, and how much is in them.

Shapes: B rows of a micro-batch, T tokens of a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from accelerate import Accelerator
from torch import Tensor

MicroBatch = dict[str, Tensor]
"""`input_ids` and `targets`, each (B, T); a target is the id that follows, or -100 where nothing is learned.

Packed rows bring `position_ids` (B, T) too, which start at 0 with each conversation, or at P where it goes on from the
first P tokens of the newest that starts at 0. Where some target counts less than 1 in the loss there are `weights`,
float32 (B, T), which are 0 where nothing is learned.
"""


class Batches(Protocol):
    """Where micro-batches come from."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """What one process reads in one step: a function of the arguments alone, at least one micro-batch."""

    def describe(self, step: int) -> str:
        """What all processes read in one step together, by number, so that a user finds it again."""


def name_numbers(what: str, numbers: Sequence[int], shown: int = 32) -> str:
    """Some numbered things in a few words.

    >>> name_numbers("conversations", [3, 17, 29], shown=2)
    'conversations 3, 17 and 1 more'
    """
    named = ", ".join(map(str, numbers[:shown]))
    return f"{what} {named}" + (f" and {len(numbers) - shown:,} more" if len(numbers) > shown else "")


def count_tokens(micro_batch: MicroBatch) -> int:
    """How many tokens of a micro-batch are read for a target: those up to the last one that each row learns.

    A prefix that conversations share counts for each of them, though it is computed once.

    >>> import torch
    >>> count_tokens({"input_ids": torch.tensor([[5, 6, 0]]), "targets": torch.tensor([[-100, 7, -100]])})
    2
    """
    learned = micro_batch["targets"] != IGNORED_TARGET  # (B, T)
    return int((learned.flip(1).cumsum(1) > 0).sum()) + _shared_tokens(micro_batch.get("position_ids"))


def _shared_tokens(position_ids: Tensor | None) -> int:
    """Tokens of shared prefixes that do not stand in packed rows again: the positions at which conversations start."""
    if position_ids is None:
        return 0
    starts = position_ids[:, 1:] != position_ids[:, :-1] + 1  # (B, T - 1)
    return int(position_ids[:, 1:][starts].sum())


def count_targets(micro_batch: MicroBatch) -> int:
    """How many targets of a micro-batch are learned."""
    return int((micro_batch["targets"] != IGNORED_TARGET).sum())


def weigh_targets(micro_batch: MicroBatch) -> float:
    """What the targets of a micro-batch that are learned weigh together: 1 each, where nothing else is said.

    >>> import torch
    >>> weigh_targets({"targets": torch.tensor([[-100, 7, 8]]), "weights": torch.tensor([[0, 1, 0.5]])})
    1.5
    """
    weights = micro_batch.get("weights")
    return float(count_targets(micro_batch)) if weights is None else float(weights.double().sum())


@dataclass(frozen=True)
class Unit:
    """What a loss is averaged over."""

    name: str
    """As `metrics.jsonl` has it."""
    count: Callable[[MicroBatch], int]
    """How many of it a micro-batch brings."""
    weigh: Callable[[MicroBatch], float] | None = None
    """What these weigh together: the loss is a mean with these weights. None where each weighs 1."""


SUPERVISED_TOKENS = Unit("supervised_tokens", count_targets, weigh_targets)


def size_of(micro_batch: MicroBatch) -> int:
    """The numbers in a micro-batch, filling included: by it the cheapest of several is found."""
    return sum(tensor.numel() for tensor in micro_batch.values())


def to_device(micro_batch: MicroBatch, accelerator: Accelerator) -> MicroBatch:
    """The micro-batch where the model computes."""
    return {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in micro_batch.items()}


IGNORED_TARGET = -100  # what torch's cross_entropy leaves out
