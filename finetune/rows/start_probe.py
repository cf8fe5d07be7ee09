"""Which start of the new rows is best, found by trying each: a short training from it, over several seeds.

What a start is worth shows after some steps, not before the first: a start that says nothing of the new tokens can have
the lowest loss at step 0 and the highest ever after (Joshi et al. 2026, arXiv 2608.03494). So step 0 is shown and never
decides.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from torch.optim import Optimizer
from transformers import PreTrainedModel

from configs.disk_space import temporary_folder
from finetune.engine.engine import Engine
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.rows.base_reading import Parts
from finetune.rows.dataset import RowDataset
from finetune.rows.distillation import distill_rows
from finetune.rows.training import HeldOutEvaluation, StartTables, copy_new_rows, fill_new_rows, put_back_new_rows
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.seeds import mixed_seed
from scratch_models.loop.training import train
from tokenizer_ext.embeddings.start_names import Start
from tokenizer_ext.pages.progress import tracked

DISTILLED = "distilled"

STARTS: tuple[Start, ...] = ("zero", "normal", "mean", "subtoken_mean", "asymmetric")
DISTILLED_FROM: Start = "asymmetric"

MakeStart = Callable[[Start, int], StartTables]
"""Start rows, by the rule and the seed."""


@dataclass(frozen=True)
class Probed:
    """Held-out bits per byte of one start, for each seed."""

    start: str
    before: tuple[float, ...]
    """After 0 steps."""
    after: tuple[float, ...]
    """After all steps of the probe."""
    seconds_to_make: tuple[float, ...] = field(default=(), compare=False)
    """How long its rows took, the distillation included."""
    seconds_to_train: tuple[float, ...] = field(default=(), compare=False)
    """How long the steps took."""


@dataclass(frozen=True)
class Probe:
    """All starts that were tried."""

    tried: tuple[Probed, ...]
    steps: int

    @property
    def best(self) -> str:
        """The start with the lowest mean after the steps; step 0 has no say."""
        return min(self.tried, key=lambda one: fmean(one.after)).start

    def facts(self) -> dict[str, Any]:
        """For `run.json`."""
        return {"steps": self.steps, "best": self.best, "tried": [dataclasses.asdict(one) for one in self.tried]}

    def table(self) -> str:
        """Mean and spread (largest minus smallest) over the seeds, best first."""
        seeds = len(self.tried[0].after)
        what = f"held-out bits per byte, {seeds} seed{'s' * (seeds > 1)}"
        head = (what, "after 0", "spread", f"after {self.steps}", "spread", "made in", "trained", "")
        ordered = sorted(self.tried, key=lambda one: fmean(one.after))
        rows = [(one.start, *_figures(one), "<- taken" if one.start == self.best else "") for one in ordered]
        width = max(len(row[0]) for row in (head, *rows))
        lines = [
            f"{name:<{width}}  {'  '.join(f'{figure:>8}' for figure in figures)}  {mark}".rstrip()
            for name, *figures, mark in (head, *rows)
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Prober:
    """What a probe works with."""

    model: PreTrainedModel
    engine: Engine
    dataset: RowDataset
    parts: Parts
    make_start: MakeStart
    make_optimizer: Callable[[], Optimizer]
    settings: LoopSettings
    accelerator: Accelerator
    steps: int
    seeds: int
    distillation_steps: int

    def run(self) -> Probe:
        """Tries every start; the model is left with the best one, as the first seed made it.

        All starts of a seed read the same text in the same order.
        """
        as_found = copy_new_rows(self.model)
        kept: dict[str, dict[str, torch.Tensor]] = {}
        tried: dict[str, list[tuple[float, ...]]] = {}
        for name in tracked((*STARTS, DISTILLED), "trying starts of the new rows", "starts"):
            for number in range(self.seeds):
                seed = mixed_seed(self.settings.seed, number)
                put_back_new_rows(self.model, as_found)
                started = time.perf_counter()
                self._fill(name, seed)
                made_in = time.perf_counter() - started
                kept.setdefault(name, copy_new_rows(self.model))
                tried.setdefault(name, []).append((*self._try(seed), made_in))
        probe = Probe(tuple(_probed(name, figures) for name, figures in tried.items()), self.steps)
        put_back_new_rows(self.model, kept[probe.best])
        return probe

    def _fill(self, name: str, seed: int) -> None:
        rule = next((start for start in STARTS if start == name), DISTILLED_FROM)
        fill_new_rows(self.model, self.make_start(rule, seed))
        if name != DISTILLED:
            return
        # Another seed than that of the training which follows, or it would have read the same blocks before.
        seed = mixed_seed(seed, self.steps)
        batches = self.dataset.make_batches(seed)  # not packed: what is aligned is read row by row
        settings = self._of_probe(seed, self.distillation_steps)
        distill_rows(self.model, self.parts, batches, self.make_optimizer(), settings, self.accelerator)

    def _try(self, seed: int) -> tuple[float, float, float]:
        """Held-out bits per byte before and after the steps of the probe, and the seconds that these took."""
        loss_model = SupervisedLoss(self.model, self.engine).to(self.accelerator.device)
        evaluate = HeldOutEvaluation(loss_model, self.dataset.held_out, self.accelerator)
        before = evaluate(0)["held_out_bits_per_byte"]
        after: list[float] = []
        ended = started = time.perf_counter()

        def note(step: int) -> dict[str, float]:
            nonlocal ended
            ended = time.perf_counter()
            after.append(evaluate(step)["held_out_bits_per_byte"])
            return {}

        with temporary_folder() as folder:  # a try is no run: what is worth knowing goes into the table
            train(
                loss_model,
                self.dataset.make_batches(seed, packed=self.engine.packs),
                [self.make_optimizer()],
                self._of_probe(seed, self.steps),
                accelerator=self.accelerator,
                run=RunFolder(folder),
                evaluate=note,
            )
        return before, after[-1], ended - started

    def _of_probe(self, seed: int, steps: int) -> LoopSettings:
        """The settings of the run, for its first steps: the learning rate falls only later."""
        return self.settings.rehearsal(steps=steps, seed=seed, schedule="constant")


def _probed(start: str, tries: Sequence[tuple[float, ...]]) -> Probed:
    before, after, trained_in, made_in = zip(*tries, strict=True)
    return Probed(start, before, after, made_in, trained_in)


def _figures(one: Probed) -> list[str]:
    bits = [f"{figure:.4f}" for of in (one.before, one.after) for figure in (fmean(of), max(of) - min(of))]
    return [*bits, *(f"{fmean(of):.1f} s" if of else "" for of in (one.seconds_to_make, one.seconds_to_train))]
