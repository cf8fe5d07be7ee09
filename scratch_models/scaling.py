"""Trains small models of several sizes for several numbers of tokens, fits a scaling law, and tries it on a larger run.

    python -m scratch_models.scaling

It prints the loss of each run, the law L(N, D) = E + A / N^alpha + B / D^beta that fits them, what the law predicts for
a run of at least four times the compute of the largest of them, and, once that is trained, what it came to. The default
takes about ten minutes of one core. `<output_dir>/<layers>x<width>_<tokens>_seed<n>` holds each run; started again with
`--output_dir DIR --resume`, it trains only those that are not there.

What so small a model comes to is partly chance, so each run is trained with two seeds, and the law is fitted to both.
The models have Llama's block: a GPT has to find out about its learned positions first, and when is more chance still.
"""

import dataclasses
import itertools
from dataclasses import dataclass

from configs import InputError, run_entry
from scratch_models.scaling_laws.shapes import Shape
from scratch_models.train_settings import TrainSettings

REFERENCE_WIDTH = 64


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """Fits a scaling law to small runs and predicts a larger one."""

    corpus: str = "tinyshakespeare"
    """A file of text, .jsonl or .parquet, a folder of them, `tinyshakespeare`, or `embedded`: this machine's docs."""
    sizes: str | list[str] = dataclasses.field(default_factory=lambda: ["1x16", "1x32", "2x32", "2x48"])
    """Shapes of the models of the grid, layers and width; a head has a width of 16."""
    steps: str | list[str] = dataclasses.field(default_factory=lambda: ["500", "1000", "2000"])
    """Optimizer steps of every size, which give the tokens that it reads."""
    held_back_size: str = "3x64"
    """Shape of the run that is predicted."""
    held_back_steps: int = 3400
    """Its optimizer steps."""
    block_size: int = 64
    """Tokens of a block."""
    blocks_per_batch: int = 8
    """Blocks that one step reads."""
    learning_rate: float = 8e-3
    """Peak learning rate of AdamW for a width of 64; it falls with the square root of the width."""
    seeds: int = 2
    """Runs of each size and number of steps, that many seeds from `seed` on."""
    seed: int = 0
    """Seed of the start values and of the order of the data, of the run that is predicted too."""
    output_dir: str | None = None
    """Folder of all runs; by default a new `runs/scaling-<n>`."""
    resume: bool = False
    """Go on in `output_dir`: runs that are there are not trained again."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"seeds: found {self.seeds}, expected at least 1")
        self.grid()
        self.held_back()  # both refuse bad values before any text is read

    def grid(self) -> list[TrainSettings]:
        """The runs that the law is fitted to: every size for every number of steps with every seed."""
        shapes = {Shape.read("sizes", text) for text in _listed(self.sizes)}
        counts = _listed(self.steps)
        if not all(text.isdigit() for text in counts):
            raise InputError(f"steps: found {' '.join(counts)}, expected whole numbers, as 300 600 1200")
        seeds = range(self.seed, self.seed + self.seeds)
        points = itertools.product(sorted(shapes), sorted({*map(int, counts)}), seeds)
        return [self._training(shape, steps, seed) for shape, steps, seed in points]

    def held_back(self) -> TrainSettings:
        """The run that the law has to predict."""
        return self._training(Shape.read("held_back_size", self.held_back_size), self.held_back_steps, self.seed)

    def _training(self, shape: Shape, steps: int, seed: int) -> TrainSettings:
        return TrainSettings(
            name="scaling",
            model="llama",
            data=self.corpus,
            block_size=self.block_size,
            blocks_per_batch=self.blocks_per_batch,
            layers=shape.layers,
            heads=shape.heads,
            width=shape.width,
            max_steps=steps,
            learning_rate=self.learning_rate * (REFERENCE_WIDTH / shape.width) ** 0.5,
            warmup_steps=min(100, steps // 5),
            schedule="cosine",
            weight_decay=0.1,
            evaluation_steps=0,
            checkpoint_steps=0,
            seed=seed,
        )


def main(settings: ScalingSettings) -> None:
    """Trains, fits, predicts, compares; torch is imported here, so that `--help` is quick."""
    from scratch_models.scaling_study import study_scaling

    study_scaling(settings.grid(), settings.held_back(), dataclasses.asdict(settings), resume=settings.resume)


def _listed(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


if __name__ == "__main__":
    run_entry(main, ScalingSettings)
