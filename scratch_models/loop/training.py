"""The one training loop, for models from scratch and for fine-tuning alike.

A model under training is a module whose forward takes one micro-batch and returns the summed loss in nats of its
targets; the loop divides by the targets of the whole global batch. So the loss is the mean per supervised token
whatever the number of processes and micro-batches. What a step reads, and the noise of its dropout, are functions of
seed and step: a run that resumes from a checkpoint goes on as the unbroken one would have.

Shapes: B rows of a micro-batch, T tokens of a row, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from configs.errors import RunStopped
from scratch_models.launch.stop_request import ANOTHER, AskedToStop, StopRequest
from scratch_models.launch.waiting import wait_for_all
from scratch_models.loop.devices import sum_over_processes
from scratch_models.loop.loop_settings import LoopSettings, is_due
from scratch_models.loop.micro_batches import (
    IGNORED_TARGET,
    SUPERVISED_TOKENS,
    Batches,
    MicroBatch,
    Unit,
    count_targets,
    size_of,
    to_device,
)
from scratch_models.loop.optimizer_step import Stepper
from scratch_models.loop.optimizers import learning_rate_factor, set_learning_rates
from scratch_models.loop.resuming import Start, resume_training, save_training
from scratch_models.loop.run_folder import RECORD, RunFolder
from scratch_models.loop.run_record import RunRecord
from scratch_models.loop.sharding import (
    computes_in_step,
    gather_model,
    is_sharded,
    shard,
    wants_sharding,
    whole_for_reading,
)
from scratch_models.loop.slice_checkpoints import refuse_folder_apart, saves_slices
from tokenizer_ext.pages.progress import tracked


class SummedLoss(nn.Module):
    """Cross-entropy of a model's logits against the targets, summed: what the loop trains."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of the targets that are not -100: two of (B, T) -> ()."""
        logits = self.model(input_ids).float()  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED_TARGET, reduction="sum")


def train(
    loss_model: nn.Module,
    batches: Batches,
    optimizers: Sequence[Optimizer],
    settings: LoopSettings,
    *,
    accelerator: Accelerator,
    run: RunFolder,
    evaluate: Callable[[int], Mapping[str, Any]],
    unit: Unit = SUPERVISED_TOKENS,
) -> None:
    """Trains the parameters that require a gradient, in place; metrics and checkpoints go to the run's folder.

    Where the launch asks for FSDP they are sharded meanwhile; in the end they are whole again where they were before.

    Args:
        loss_model: Returns the summed loss of a micro-batch.
        batches: Where the micro-batches come from.
        optimizers: They hold what trains.
        settings: How long, how often.
        accelerator: The processes that train together.
        run: Where metrics and checkpoints go; a run that is resumed after its last step does nothing more.
        evaluate: Called with the step in every process; returns what the line of `metrics.jsonl` shows of it.
        unit: What the summed loss is divided by the number, or weight, of; `metrics.jsonl` has the number by its name.

    Raises:
        InputError: a loss or gradient is not finite, before the update that it would have spoilt.
        RunStopped: the run was asked to end, and has saved what it did.

    """
    stepper, start = _prepare(loss_model, batches, optimizers, settings, accelerator, run, unit)
    record = RunRecord(run, start.step, settings, accelerator)
    course = Course(loss_model, stepper, record, evaluate)
    with record.progress, stepper.stop.listened_to():
        course.run(start)
    stepper.prepared.eval()
    if not computes_in_step(loss_model):  # else no process could hold it whole
        gather_model(loss_model, optimizers)
    record.close(loss_model)
    wait_for_all(accelerator)


def _prepare(
    loss_model: nn.Module,
    batches: Batches,
    optimizers: Sequence[Optimizer],
    settings: LoopSettings,
    accelerator: Accelerator,
    run: RunFolder,
    unit: Unit,
) -> tuple[Stepper, Start]:
    """What steps are made with, and where they begin: sharded or wrapped, and as the newest checkpoint has it."""
    wait_for_all(accelerator)
    shares = wants_sharding(accelerator)
    if shares and not is_sharded(loss_model):
        shard(loss_model, accelerator, optimizers)
    if saves_slices(loss_model):
        refuse_folder_apart(run.path, accelerator)
    start, kept = Start(0), settings.checkpoints_kept
    if settings.resume:
        start = resume_training(loss_model, optimizers, run, accelerator, kept=kept)
    # A rehearsal has no record: nothing of it is saved, so it ends at once when it is asked to.
    has_record = accelerator.is_main_process and (run.path / RECORD).is_file()
    can_go_on = sum_over_processes([float(has_record)], accelerator)[0] > 0
    stepper = Stepper(
        prepared=loss_model if shares else accelerator.prepare_model(loss_model),
        is_sharded=shares,
        batches=batches,
        optimizers=optimizers,
        settings=settings,
        accelerator=accelerator,
        unit=unit,
        stop=StopRequest(accelerator, heeded=can_go_on),
    )
    return stepper, start


@dataclass
class Course:
    """A run under way: its steps, with what is due after each."""

    loss_model: nn.Module
    stepper: Stepper
    record: RunRecord
    evaluate: Callable[[int], Mapping[str, Any]]
    saved: int = 0
    """The step of the newest checkpoint of this part of the run, or the one that it began with."""

    def run(self, start: Start) -> None:
        """All steps from the first one that is left.

        Raises:
            RunStopped: the run was asked to end.

        """
        done = self.saved = start.step
        try:
            if start.unevaluated is not None:
                self.end_step(done, start.unevaluated)
            for step in range(start.step, self.stepper.settings.max_steps):
                if self.record.has_stalled:
                    break
                metrics, done = self.take_step(step), step + 1
                self.end_step(done, metrics)
        except AskedToStop:
            self._stop(done)
        except RuntimeError as error:
            # Where the main process saved in the middle of an evaluation and ended, its connections close.
            if self.stepper.stop.reason and not self.stepper.accelerator.is_main_process:
                raise self._stopped(done) from error
            raise

    def take_step(self, step: int) -> dict[str, Any]:
        """One update; what is said of it."""
        self.stepper.prepared.train()
        set_learning_rates(self.stepper.optimizers, learning_rate_factor(step, self.stepper.settings))
        metrics: dict[str, Any] = self.stepper.take(step)
        return metrics | self.record.pace.after(metrics["tokens"])

    def end_step(self, done: int, metrics: dict[str, Any]) -> None:
        """The evaluation, the line of metrics and the checkpoint that are due after so many steps."""
        settings = self.stepper.settings
        if done == settings.max_steps or is_due(done, settings.evaluation_steps):
            metrics |= self._evaluate(done, metrics)
        self.record.write({"step": done, **metrics}, lambda: self.stepper.batches.describe(done - 1))
        is_last = done == settings.max_steps or self.record.has_stalled
        if settings.checkpoint_steps and (is_last or is_due(done, settings.checkpoint_steps)):
            self._save(done)

    def _evaluate(self, done: int, metrics: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the evaluation says; where the run is asked to end meanwhile, the step is saved without it."""
        stop, accelerator = self.stepper.stop, self.stepper.accelerator
        self.stepper.prepared.eval()
        try:
            with whole_for_reading(self.loss_model), stop.ends_evaluation(alone=not self.stepper.is_sharded):
                evaluation = self.evaluate(done)
        except AskedToStop:
            self._save(done, metrics)
            stop.leave_no_one_waiting()
            raise self._stopped(done) from None
        wait_for_all(accelerator)  # the main process may have asked the model a while longer
        self.record.compare(done, evaluation, self.loss_model)
        return evaluation

    def _save(self, done: int, unevaluated: Mapping[str, Any] | None = None) -> None:
        stepper, run, kept = self.stepper, self.record.run, self.stepper.settings.checkpoints_kept
        save_training(self.loss_model, stepper.optimizers, done, run, stepper.accelerator, unevaluated, kept=kept)
        self.saved = done

    def _stop(self, done: int) -> NoReturn:
        if done > self.saved:
            self._save(done)
        sum_over_processes([0.0], self.stepper.accelerator)  # nobody ends before the main process has saved
        raise self._stopped(done)

    def _stopped(self, done: int) -> RunStopped:
        run, last = self.record.run.path, self.stepper.settings.max_steps
        return RunStopped(
            f"ended by {self.stepper.stop.reason or ANOTHER} after step {done} of {last}, which is saved: go on with "
            f"the same command and --resume --output_dir {run}"
        )


def held_out_loss(
    loss_model: nn.Module, micro_batches: Sequence[MicroBatch], accelerator: Accelerator
) -> tuple[float, int]:
    """Summed nats and the number of targets over all micro-batches, which the processes share between them.

    What is held out measures: the micro-batches bring no weights, each target counts 1. Where the processes compute in
    step, one that has fewer of them reads its smallest once more, and does not count it.
    """
    was_training = loss_model.training
    loss_model.eval()
    nats, targets = torch.zeros((), dtype=torch.float64), 0
    with torch.no_grad(), accelerator.autocast():
        mine = micro_batches[accelerator.process_index :: accelerator.num_processes]
        for micro_batch in tracked(mine, "held-out loss", "micro-batches"):
            nats += loss_model(**to_device(micro_batch, accelerator)).cpu().double()
            targets += count_targets(micro_batch)
        most = -(-len(micro_batches) // accelerator.num_processes)
        if len(mine) < most and computes_in_step(loss_model):
            loss_model(**to_device(min(micro_batches, key=size_of), accelerator))
    loss_model.train(was_training)
    total = sum_over_processes([float(nats), float(targets)], accelerator)
    return total[0], int(total[1])
