"""The weights that did best on held-out text, kept on the disk until the end of a run; and when to end it early.

Both compare the evaluations of a run by their held-out bits per byte. The evaluation before the first step is no part
of it: its weights are those that the run started from.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from configs import InputError
from configs.whole_folder import remove_whole
from scratch_models.checkpoints.checkpoint import (
    Checkpoint,
    find_damage,
    find_other_tensor,
    list_checkpoints,
    load_newest_checkpoint,
    read_state,
    save_checkpoint,
)
from scratch_models.loop.devices import sum_over_processes
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.sharding import spread_like, whole_tensors
from scratch_models.loop.slice_checkpoints import find_slices, held_state, load_slices, save_slices, saves_slices

MEASURE = "held_out_bits_per_byte"


def evaluations_without_gain(metrics: Iterable[Mapping[str, Any]]) -> int:
    """How many evaluations ran since the best one.

    >>> lines = [{"step": step, MEASURE: bits} for step, bits in enumerate([1.9, 2.0, 1.5, 1.6, 1.5])]
    >>> evaluations_without_gain([*lines, {"step": 5}])
    2
    """
    best, since = math.inf, 0
    for figure in (entry[MEASURE] for entry in metrics if entry["step"] > 0 and MEASURE in entry):
        best, since = (figure, 0) if figure < best else (best, since + 1)
    return since


def measured(metrics: Mapping[str, Any], accelerator: Accelerator) -> float:
    """What the main process measured, in every process: they must all come to the same decision.

    Raises:
        InputError: the evaluation does not measure it.

    """
    if MEASURE not in metrics:
        raise InputError(f"keep_best and early_stopping_evaluations: the evaluation of this run measures no {MEASURE}")
    return sum_over_processes([metrics[MEASURE] if accelerator.is_main_process else 0.0], accelerator)[0]


def kept_step(run: RunFolder) -> int | None:
    """The step whose weights a run with `keep_best` ended with; None where it ended with its last ones."""
    kept = list_checkpoints(run.best)
    return int(read_state(kept[-1])["step"]) if kept else None


def saved_evaluation(run: RunFolder) -> dict[str, Any]:
    """The line of metrics that measured the weights which a finished run ended with.

    Raises:
        InputError: it is not there any more.

    """
    kept, evaluated = kept_step(run), [entry for entry in run.read_metrics() if MEASURE in entry]
    found = next((entry for entry in reversed(evaluated) if kept in (None, entry["step"])), None)
    if found is None:
        raise InputError(f"{run.metrics}: holds no evaluation of the weights that were kept: it was changed or lost")
    return found


def describe_steps(run: RunFolder) -> str:
    """How many steps a finished run took, and with `keep_best` which of them its weights are of."""
    kept, last = kept_step(run), run.read_metrics()[-1]["step"]
    return f"{last:,}" if kept is None else f"{last:,}; the weights are those of step {kept:,}, the best"


class BestCheckpoint:
    """The best weights of a run so far, under `best/` of its folder: one checkpoint without optimizer state."""

    def __init__(self, folder: Path, first_step: int, accelerator: Accelerator) -> None:
        """Takes up what an earlier part of the run left; what came after `first_step` will be measured again."""
        self.folder, self.accelerator = folder, accelerator
        self.bits_per_byte = math.inf
        later = []
        for path in list_checkpoints(folder):
            problem = find_damage(path)
            measure = None if problem else read_state(path).get(MEASURE)
            if problem is None and not isinstance(measure, int | float):
                problem = f"{path.name}: {MEASURE} is {measure!r:.40}, expected a number"
            if problem is not None:
                accelerator.print(
                    f"best/{problem}: it is passed over, and the best weights are looked for from here on"
                )
                later.append(path)
                continue
            state = read_state(path)
            if state["step"] <= first_step:
                self.bits_per_byte = state[MEASURE]
            else:
                later.append(path)
        accelerator.wait_for_everyone()  # another process may still be reading what is deleted here
        if accelerator.is_main_process:
            for path in later:
                remove_whole(path)

    def offer(self, loss_model: nn.Module, step: int, bits_per_byte: float) -> None:
        """Keeps the weights of a step if they are the best so far; every process must call it."""
        if not bits_per_byte < self.bits_per_byte:
            return
        self.bits_per_byte, state = bits_per_byte, {MEASURE: bits_per_byte}
        if saves_slices(loss_model):
            best = Checkpoint(step=step, tensors=held_state(loss_model, []), state=state)
            save_slices(best, self.folder, self.accelerator, kept=1)
            return
        trained = whole_tensors(loss_model, keep=self.accelerator.is_main_process)
        if self.accelerator.is_main_process:
            save_checkpoint(Checkpoint(step=step, tensors={"trained": trained}, state=state), self.folder, kept=1)

    @torch.no_grad()
    def load(self, loss_model: nn.Module) -> str:
        """Puts the best weights into a model, whole in every process or spread over them; says which they are."""
        self.accelerator.wait_for_everyone()
        trained = {name: weight for name, weight in loss_model.named_parameters() if weight.requires_grad}
        if saves_slices(loss_model):
            path, best, _ = find_slices(self.folder, self.accelerator)
            self._refuse_other(trained, best)
            load_slices(loss_model, [], path, best, self.accelerator)
            return _describe_best(best)
        best, said = Checkpoint(step=0, tensors={"trained": {}}, state={}), ""
        if self.accelerator.is_main_process:
            best, _ = load_newest_checkpoint(self.folder)
            self._refuse_other(trained, best)
            said = _describe_best(best)
        for name, parameter in trained.items():  # the main process alone has the folder for certain
            whole = best.tensors["trained"].get(name, torch.empty(parameter.shape, dtype=parameter.dtype))
            parameter.copy_(spread_like(parameter, broadcast(whole.to(parameter.device))))
        return said

    def _refuse_other(self, trained: Mapping[str, Tensor], best: Checkpoint) -> None:
        if problem := find_other_tensor(trained, best.tensors.get("trained", {})):
            raise InputError(f"{self.folder}: {problem}: it is of another run, or was changed")


def _describe_best(best: Checkpoint) -> str:
    return f"The weights are those of step {best.step}, the best: {best.state[MEASURE]:.4f} held-out bits per byte"
