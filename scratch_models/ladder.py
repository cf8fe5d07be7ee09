"""Trains every rung of the ladder on the same text, from counted pairs to patches of bytes.

    python -m scratch_models.ladder --corpus FILE

Each rung adds one idea to the one before: learning by gradient, the mean of the past, one head of attention, several,
a whole block, several blocks, what came after GPT-2, and a row read in patches. The mean of a long past does worse than
the last character alone, which drowns in it: attention has to choose. It prints and plots the held-out loss of each
rung against its name, its parameters and its seconds; `<output_dir>/<rung>` holds each run, which
`scratch_models.sample` opens.
"""

from dataclasses import dataclass
from typing import Literal

from configs import InputError, run_entry
from scratch_models.train_settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class LadderSettings:
    """Trains every rung of the ladder on the same ids of one text, for the same steps on the same blocks."""

    corpus: str = "tinyshakespeare"
    """A file of text, .jsonl or .parquet, a folder of them, `tinyshakespeare`, or `embedded`: this machine's docs."""
    tokens: Literal["characters", "bytes"] = "characters"
    """What an id stands for."""
    block_size: int = 64
    """Tokens of a block, the longest past that a rung sees."""
    blocks_per_batch: int = 12
    """Blocks that one step reads."""
    layers: int = 4
    """Blocks of the last three rungs."""
    heads: int = 4
    """Attention heads from the rung of several heads on."""
    width: int = 128
    """Width of every rung but the bigrams."""
    patch_size: int = 4
    """Tokens of a patch of the last rung; it divides the block and the width."""
    max_steps: int = 1000
    """Optimizer steps of each rung."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW; ten times that for the table of the bigram."""
    sample_characters: int = 120
    """Length of what each rung writes in the end."""
    seed: int = 0
    """Seed of the start values and of the order of the data."""
    output_dir: str | None = None
    """New folder; by default `runs/ladder-<n>`."""

    def __post_init__(self) -> None:
        self.training()  # refuses bad values before any text is read
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not a multiple of heads {self.heads}: choose a width that is")
        for name, size in (("block_size", self.block_size), ("width", self.width)):
            if size % self.patch_size:
                raise InputError(f"{name} {size} is not a multiple of patch_size {self.patch_size}, expected one")

    def training(self) -> TrainSettings:
        """The settings that all rungs share, in terms of `scratch_models.train`."""
        halved = self.width // 2
        return TrainSettings(
            name="ladder",
            data=self.corpus,
            tokens=self.tokens,
            block_size=self.block_size,
            blocks_per_batch=self.blocks_per_batch,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            patch_size=self.patch_size,
            local_width=halved if halved % self.heads == 0 else self.width,
            max_steps=self.max_steps,
            learning_rate=self.learning_rate,
            warmup_steps=min(100, self.max_steps // 10),
            schedule="cosine",
            weight_decay=0.1,
            sample_characters=self.sample_characters,
            evaluation_steps=0,
            checkpoint_steps=0,
            seed=self.seed,
            output_dir=self.output_dir,
        )


def main(settings: LadderSettings) -> None:
    """Trains the rungs, shows what each is worth, plots it; torch is imported here, so that `--help` is quick."""
    from scratch_models.climbing import climb

    climb(settings.training())


if __name__ == "__main__":
    run_entry(main, LadderSettings)
