"""A short training on rows of uneven length, whose losses must not depend on how a global batch is cut.

    accelerate launch tests/scratch_models/ragged_training.py DIR

leaves `metrics.jsonl` and a checkpoint of the last step in DIR.
"""

import sys
from pathlib import Path

import torch

from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.seeds import seeded_generator
from scratch_models.loop.training import SummedLoss, train
from scratch_models.rungs.gpt import GPT, GPTConfig

VOCABULARY, T, STEPS = 11, 8, 10
# Learned targets of the eight rows of a step; the rows of one process of two have 10 together, of the other 26.
LEARNED = (1, 8, 2, 7, 0, 8, 7, 3)


class RaggedBatches:
    """Eight rows a step, cut into micro-batches of some rows."""

    def __init__(self, rows_per_micro_batch: int = 8) -> None:
        self.rows_per_micro_batch = rows_per_micro_batch

    def describe(self, step: int) -> str:
        return f"batch {step}"

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        rows = global_batch(step)
        mine = {name: tensor[rank::world_size] for name, tensor in rows.items()}
        cut = {name: tensor.split(self.rows_per_micro_batch) for name, tensor in mine.items()}
        return [
            {"input_ids": input_ids, "targets": targets}
            for input_ids, targets in zip(cut["input_ids"], cut["targets"], strict=True)
        ]


def global_batch(step: int) -> MicroBatch:
    """All rows of a step: `input_ids` and `targets`, each (8, T)."""
    ids = torch.randint(VOCABULARY, (8, T + 1), generator=seeded_generator(7, step))
    learned = torch.arange(T) < torch.tensor(LEARNED)[:, None]  # (8, T)
    return {"input_ids": ids[:, :-1], "targets": ids[:, 1:].where(learned, IGNORED_TARGET)}


def make_loss_model(dropout: float = 0.0, layers: int = 1) -> SummedLoss:
    torch.manual_seed(0)
    return SummedLoss(
        GPT(GPTConfig(vocabulary_size=VOCABULARY, block_size=T, layers=layers, heads=2, width=8, dropout=dropout))
    )


def train_on_ragged_rows(folder: Path, rows_per_micro_batch: int = 8) -> SummedLoss:
    """The model after the run, which leaves its metrics and a checkpoint in `folder`."""
    folder.mkdir(exist_ok=True)
    loss_model = make_loss_model()
    settings = LoopSettings(max_steps=STEPS, learning_rate=0.5, checkpoint_steps=STEPS, gradient_clip=100.0)
    # Not AdamW: it divides by the size of a gradient, and so hides one that is wrong by a factor.
    optimizer = torch.optim.SGD(loss_model.parameters(), lr=settings.learning_rate, momentum=0.9)
    train(
        loss_model,
        RaggedBatches(rows_per_micro_batch),
        [optimizer],
        settings,
        accelerator=make_accelerator("fp32"),
        run=RunFolder(folder),
        evaluate=lambda step: {},
    )
    return loss_model


if __name__ == "__main__":
    train_on_ragged_rows(Path(sys.argv[1]))
    make_accelerator("fp32").end_training()  # takes leave of the other process
