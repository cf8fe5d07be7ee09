"""What a run tells while it trains: its line of metrics, trackers, the progress bar, and which evaluation was best."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from configs.disk_space import check_space
from scratch_models.checkpoints.checkpoint import list_checkpoints
from scratch_models.launch.trackers import log_numbers, start_trackers
from scratch_models.launch.waiting import wait_for_all
from scratch_models.loop.best_checkpoint import MEASURE, BestCheckpoint, evaluations_without_gain, measured
from scratch_models.loop.loop_settings import LoopSettings, RunSettings
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.sharding import wants_sharding
from tokenizer_ext.embeddings.tables import new_row_parameters
from tokenizer_ext.pages.progress import progress

JUMP, SETTLED_AFTER = 10, 100
"""A loss jumps where it is so many times the largest of the first so many steps: the rule of Megatron-LM's
`rerun_state_machine`, https://github.com/NVIDIA/Megatron-LM/blob/core_v0.12.0/megatron/core/rerun_state_machine.py."""
SHOWN_JUMPS = 3


class RunRecord:
    """Takes the metrics of each step, and knows when a run has stopped getting better."""

    def __init__(self, run: RunFolder, first_step: int, settings: LoopSettings, accelerator: Accelerator) -> None:
        self.run, self.settings, self.accelerator = run, settings, accelerator
        earlier = [entry for entry in run.read_metrics() if entry["step"] <= first_step]
        self.pace = Pace(earlier)
        self.evaluations = [entry for entry in earlier if MEASURE in entry]
        self.jumps = sum("loss_jumped" in entry for entry in earlier)
        self.losses = [entry["loss_nats"] for entry in earlier if "loss_nats" in entry]
        self.best = BestCheckpoint(run.best, first_step, accelerator) if settings.keep_best else None
        self.progress = progress("training", settings.max_steps, "steps", initial=first_step, keep=True)

    @property
    def has_stalled(self) -> bool:
        """Whether as many evaluations in a row as the settings allow brought nothing."""
        allowed = self.settings.early_stopping_evaluations
        return 0 < allowed <= evaluations_without_gain(self.evaluations)

    def compare(self, step: int, evaluation: Mapping[str, Any], loss_model: nn.Module) -> None:
        """Takes note of an evaluation, and of the weights if they are the best; every process must call it."""
        if self.best is None and not self.settings.early_stopping_evaluations:
            return
        bits_per_byte = measured(evaluation, self.accelerator)
        self.evaluations.append({"step": step, MEASURE: bits_per_byte})
        if self.best is not None:
            self.best.offer(loss_model, step, bits_per_byte)

    def write(self, metrics: Mapping[str, Any], read: Callable[[], str]) -> None:
        """A line of `metrics.jsonl`, for the trackers and for whoever watches; `read` says what the step read.

        A loss that jumps is said, and noted in the line.
        """
        largest = max(self.losses[:SETTLED_AFTER], default=math.inf)
        self.losses.append(metrics["loss_nats"])
        if self.losses[-1] > JUMP * largest:
            metrics, self.jumps = {**metrics, "loss_jumped": read()}, self.jumps + 1
        if self.accelerator.is_main_process:
            if "loss_jumped" in metrics and self.jumps <= SHOWN_JUMPS:
                jump = f"loss {self.losses[-1]:.4g}, over {JUMP} times the largest of the first steps ({largest:.4g})"
                self.progress.write(f"step {metrics['step']}: {jump}; it read {metrics['loss_jumped']}")
            self.run.append_metrics(metrics)
            log_numbers(self.accelerator, metrics)
            self.progress.set_postfix_str(_postfix(metrics), refresh=False)
            self.progress.update()

    def close(self, loss_model: nn.Module) -> None:
        """Says what is odd in the losses; leaves the model, whole in every process, with the weights it shall have."""
        if self.jumps:
            self.accelerator.print(
                f"The loss jumped in {self.jumps} steps: `loss_jumped` in {self.run.metrics} names them"
            )
        if oddity := describe_losses(self.losses):
            self.accelerator.print(oddity)
        if self.has_stalled:
            allowed = self.settings.early_stopping_evaluations
            last = self.evaluations[-1]["step"]
            self.accelerator.print(
                f"Ended at step {last}: {allowed} evaluations brought no fewer held-out bits per byte"
            )
        if self.best is not None:
            self.accelerator.print(self.best.load(loss_model))


def describe_losses(losses: Sequence[float]) -> str | None:
    """What a user should know of the losses of a run's steps, in one line; None where they fell as they should.

    Compared are the medians of the first and of the last tenth of the steps.

    >>> describe_losses([4.0, 3.0, 2.5, *[2.0] * 27])
    >>> describe_losses([2.0] * 15 + [9.0] * 15)
    'The loss went up, from 2 to 9: the model got worse; lower learning_rate'
    >>> describe_losses([2.0] * 30)
    'The loss did not fall: it was 2 and is 2; look at what is learned, or raise learning_rate'
    """
    tenth = max(1, len(losses) // 10)
    first, last = median(losses[:tenth] or [0.0]), median(losses[-tenth:] or [0.0])
    if last > 1.5 * first:
        return f"The loss went up, from {first:.4g} to {last:.4g}: the model got worse; lower learning_rate"
    if last >= first and tenth > 1:
        seen = f"The loss did not fall: it was {first:.4g} and is {last:.4g}"
        return f"{seen}; look at what is learned, or raise learning_rate"
    return None


def begins_anew(run: RunFolder, settings: RunSettings) -> bool:
    """Whether the run takes its first step: it is not resumed, or was ended before its first checkpoint."""
    return not (settings.resume and list_checkpoints(run.checkpoints))


def record_start(
    evaluate: Callable[[int], Mapping[str, Any]], run: RunFolder, settings: RunSettings, accelerator: Accelerator
) -> None:
    """Notes as step 0 what the model is like before training, unless that was done; the line has no loss of a batch."""
    if not begins_anew(run, settings):
        return
    with progress("the model before training"):
        wait_for_all(accelerator)  # the main process may have asked a model alone before
    figures = evaluate(0)
    wait_for_all(accelerator)
    if accelerator.is_main_process:
        run.drop_metrics_after(-1)
        metrics = {"step": 0, "tokens": 0, "seconds": 0.0, **figures}
        run.append_metrics(metrics)
        log_numbers(accelerator, metrics)


def start_run(
    run: RunFolder,
    settings: RunSettings,
    accelerator: Accelerator,
    facts: Mapping[str, Any],
    model: nn.Module | None = None,
) -> RunFolder:
    """The run's folder, made or checked by the main process, known to every process; trackers start with it.

    Raises:
        InputError: the disk has no room for the checkpoints and the end of the run, where its model is given; or as
            `RunFolder.start`.

    """
    wait_for_all(accelerator)  # nobody may still be looking whether the folder is free
    if accelerator.is_main_process:
        if model is not None:
            check_space(run.path, bytes_of_run(model, settings))
        facts = {"world_size": accelerator.num_processes, "sharded": wants_sharding(accelerator), **facts}
        run = run.start(dataclasses.asdict(settings), facts, resume=settings.resume)
    started: RunFolder = broadcast_object_list([run])[0]
    start_trackers(accelerator, started.path, dataclasses.asdict(settings))
    return started


def bytes_of_run(model: nn.Module, settings: RunSettings) -> int:
    """An estimate of what is still to be written: checkpoints, those kept and one more, and the finished model.

    A checkpoint holds what trains, and two numbers of AdamW for each of its numbers.
    """
    whole = sum(parameter.nbytes for parameter in model.parameters())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    checkpoints = 0 if not settings.checkpoint_steps else 1 if settings.resume else _most_checkpoints(settings)
    # A base with new rows is saved beside its adapter.
    return checkpoints * 3 * trained + (whole if new_row_parameters(model) else trained)


def _most_checkpoints(settings: RunSettings) -> int:
    """How many stand at a time while one is written; where all are kept, as many as the run has steps for."""
    steps = getattr(settings, "max_steps", None) or settings.checkpoint_steps
    return 1 + (settings.checkpoints_kept or -(-steps // settings.checkpoint_steps))


class Pace:
    """How long a run has taken and how fast it is, what came before a resume included."""

    def __init__(self, earlier: Sequence[Mapping[str, float]]) -> None:
        self.tokens = sum(entry["tokens"] for entry in earlier)
        self.started = time.perf_counter() - (earlier[-1]["seconds"] if earlier else 0.0)

    def after(self, tokens: float) -> dict[str, float]:
        """Seconds and tokens per second once so many more tokens were read."""
        self.tokens += tokens
        seconds = time.perf_counter() - self.started
        return {"seconds": seconds, "tokens_per_second": self.tokens / seconds}


def _postfix(metrics: Mapping[str, float]) -> str:
    shown = f"loss {metrics['loss_nats']:.3f}, {metrics['tokens_per_second']:.0f} tokens/s"
    held_out = metrics.get("held_out_loss_nats")
    return shown if held_out is None else f"{shown}, held-out {held_out:.3f}"
