"""Blocks of text as micro-batches: packed, each document for itself, or a row of each where packing is not exact.

Shapes: B rows of a micro-batch, T tokens of a row; packed, all blocks of a micro-batch are one row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from configs import InputError
from finetune.chat.packing import Row, join
from finetune.pretraining.block_order import BlockOrder
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.token_files import EncodedText
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.loop.micro_batches import MicroBatch


@dataclass(frozen=True)
class Layout:
    """How blocks lie in micro-batches."""

    packed: bool
    tokens_per_micro_batch: int

    def join(self, blocks: Sequence[Sequence[Row]], block_size: int) -> list[MicroBatch]:
        """Blocks, each the documents in it, as micro-batches."""
        at_once = max(1, self.tokens_per_micro_batch // block_size)
        groups = [blocks[start : start + at_once] for start in range(0, len(blocks), at_once)]
        return [join([row for block in group for row in block], packed=self.packed) for group in groups]


@dataclass(frozen=True)
class TextBlocks:
    """The micro-batches of every step."""

    texts: Sequence[EncodedText]
    order: BlockOrder
    ends: DocumentEnds
    per_step: int
    """Blocks that a step reads over all processes."""
    layout: Layout

    @classmethod
    def of(
        cls,
        texts: Sequence[EncodedText],
        shares: Sequence[float],
        ends: DocumentEnds,
        *,
        block_size: int,
        blocks_per_batch: int,
        seed: int,
    ) -> "TextBlocks":
        """The blocks of the texts to learn from.

        Raises:
            InputError: one of them is shorter than a block.

        """
        for text in texts:
            if len(text.training) <= block_size:
                raise InputError(
                    f"{text.name}: its part to learn from has {len(text.training)} tokens, expected at least "
                    f"{block_size + 1} for one block with its targets: pass a longer text or a smaller block_size"
                )
        order = BlockOrder([len(text.training) for text in texts], shares, block_size, seed)
        return cls(texts, order, ends, blocks_per_batch, Layout(packed=False, tokens_per_micro_batch=block_size))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which the first text is read once."""
        return math.ceil(self.order.blocks_of(0) / (self.order.shares[0] * self.per_step))

    def laid_out(self, layout: Layout) -> "TextBlocks":
        """The same blocks in other micro-batches."""
        return replace(self, layout=layout)

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """One process's share of a step's blocks, every world_size-th."""
        chosen = self._of_step(step)[rank::world_size]
        size = self.order.block_size
        blocks = [self.rows_at(text, start, size) for text, start in chosen]
        return self.layout.join(blocks, size)

    def rows_at(self, text: int, start: int, size: int) -> list[Row]:
        """The documents of the block that begins at a token of a text."""
        return self.ends.rows(self.texts[text].training[start : start + size + 1].numpy())

    def describe(self, step: int) -> str:
        """Which text, and from which of its tokens on, a step reads."""
        named = [f"{self.texts[text].name} from token {start:,}" for text, start in self._of_step(step)]
        return f"the blocks of {', '.join(named)}"

    def epochs_of(self, steps: int) -> dict[str, float]:
        """How often so many steps read each text."""
        read = self.order.read_before(steps * self.per_step)
        return {text.name: read[number] / self.order.blocks_of(number) for number, text in enumerate(self.texts)}

    def _of_step(self, step: int) -> list[tuple[int, int]]:
        return self.order.starts(step * self.per_step, (step + 1) * self.per_step)


def spread_blocks(text: EncodedText, ends: DocumentEnds, block_size: int, number: int) -> tuple[list[list[Row]], int]:
    """So many blocks of what is held out, spread over all of it, each the documents in it; and their targets' bytes.

    The last block may be shorter, and so may a text be than one block.
    """
    starts = evenly_spaced(range(0, max(len(text.held_out) - 1, 1), block_size), number)
    blocks = [ends.rows(text.held_out[start : start + block_size + 1].numpy()) for start in starts]
    lengths = [text.held_out_bytes[start + 1 : start + block_size + 1] for start in starts]
    return blocks, int(sum(one.sum() for one in lengths))
