"""The ids of a corpus, split and cut into blocks to train on and to measure on.

Shapes: B blocks of a micro-batch, T tokens of a block, N ids of the corpus.
"""

from typing import TypeVar

import torch
from torch import Tensor

from configs import InputError
from scratch_models.corpus.stored_ids import StoredIds, windows
from scratch_models.loop.micro_batches import IGNORED_TARGET, name_numbers
from scratch_models.loop.seeds import seeded_generator

TRAINING_SHARE = 0.9
Text = TypeVar("Text", str, Tensor)


def split_by_position(corpus: Text) -> tuple[Text, Text]:
    """The first 90 % to train on and the rest held out, of a text or of its ids.

    >>> split_by_position("abcdefghijk")
    ('abcdefghi', 'jk')
    """
    boundary = int(TRAINING_SHARE * len(corpus))
    return corpus[:boundary], corpus[boundary:]


class RandomBlocks:
    """Blocks from random places of the training ids, every step's a function of seed and step alone.

    So a run that resumes reads what the unbroken run would have read, and the blocks of a step are the same for any
    number of processes, and for any number of blocks that are computed at once.
    """

    def __init__(
        self,
        ids: Tensor | StoredIds,
        block_size: int,
        blocks_per_batch: int,
        seed: int,
        blocks_per_micro_batch: int | None = None,
    ) -> None:
        """Micro-batches hold at most so many blocks; without a number, all that a process reads in a step."""
        if len(ids) <= block_size:
            raise InputError(
                f"the training part of the corpus has {len(ids)} tokens, expected at least {block_size + 1} for one "
                f"block of {block_size} with its targets: pass a longer text or a smaller block_size"
            )
        self.ids = ids
        self.block_size = block_size
        self.blocks_per_batch = blocks_per_batch
        self.seed = seed
        self.blocks_per_micro_batch = blocks_per_micro_batch or blocks_per_batch

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, Tensor]]:
        """One process's share of a step's blocks, every world_size-th: `input_ids` and `targets`, each (B, T).

        Where the micro-batches do not divide the share, the last one is smaller.
        """
        if self.blocks_per_batch < world_size:
            raise InputError(
                f"{self.blocks_per_batch} blocks per batch do not reach {world_size} processes: "
                "raise the blocks per batch or launch fewer processes"
            )
        share = windows(self.ids, self._offsets(step)[rank::world_size], self.block_size + 1)  # (share, T + 1)
        return [
            {"input_ids": blocks[:, :-1].contiguous(), "targets": blocks[:, 1:].contiguous()}
            for blocks in share.split(self.blocks_per_micro_batch)  # each (B, T + 1)
        ]

    def describe(self, step: int) -> str:
        """Where in the ids to train on a step's blocks begin."""
        return name_numbers("the blocks from tokens", self._offsets(step).tolist())

    def _offsets(self, step: int) -> Tensor:
        """Where the blocks of a step begin, over all processes: (blocks_per_batch)."""
        last_offset = len(self.ids) - self.block_size - 1
        return torch.randint(last_offset + 1, (self.blocks_per_batch,), generator=seeded_generator(self.seed, step))


def held_out_blocks(ids: Tensor, block_size: int, blocks_per_batch: int) -> list[dict[str, Tensor]]:
    """Micro-batches that hold every id but the first exactly once as a target: `input_ids` and `targets`, each (B, T).

    The windows follow each other without overlap; the last is filled up with targets that the loss ignores.
    """
    if len(ids) < 2:
        raise InputError(
            f"the held-out part of the corpus has {len(ids)} tokens, expected at least 2: pass a longer text"
        )
    missing = -(len(ids) - 1) % block_size
    input_ids = torch.cat([ids[:-1].long(), torch.zeros(missing, dtype=torch.long)]).view(-1, block_size)  # (N / T, T)
    targets = torch.cat([ids[1:].long(), torch.full((missing,), IGNORED_TARGET)]).view(-1, block_size)  # (N / T, T)
    return [
        {"input_ids": some_ids, "targets": some_targets}
        for some_ids, some_targets in zip(
            input_ids.split(blocks_per_batch), targets.split(blocks_per_batch), strict=True
        )
    ]
