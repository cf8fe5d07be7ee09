"""The one training loop, for models from scratch and for fine-tuning alike.

A model under training is a module whose forward takes one micro-batch and returns the summed loss in nats of its
targets; the loop divides by the targets of the whole global batch. So the loss is the mean per supervised token
whatever the number of processes and micro-batches. What a step reads, and the noise of its dropout, are functions of
seed and step: a run that resumes from a checkpoint goes on as the unbroken one would have.

Shapes: B rows of a micro-batch, T tokens of a row, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from scratch_models.launch.waiting import wait_for_all
from scratch_models.loop.checkpoint import (
    Checkpoint,
    load_newest_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from scratch_models.loop.devices import sum_over_processes
from scratch_models.loop.loop_settings import LoopSettings, RunSettings
from scratch_models.loop.micro_batches import (
    IGNORED_TARGET,
    SUPERVISED_TOKENS,
    Batches,
    MicroBatch,
    Unit,
    count_targets,
    to_device,
)
from scratch_models.loop.optimizer_step import Stepper
from scratch_models.loop.optimizers import learning_rate_factor
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.run_record import RunRecord
from scratch_models.loop.sharding import (
    gather_model,
    shard,
    spread_like,
    wants_sharding,
    whole_for_reading,
    whole_tensors,
)
from scratch_models.loop.trackers import log_numbers, start_trackers
from tokenizer_ext.pages.progress import progress, tracked


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

    Where the launch asks for FSDP the parameters are sharded meanwhile; in the end they are whole in every process.

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

    """
    stepper, first_step = _prepare(loss_model, batches, optimizers, settings, accelerator, run, unit)
    record = RunRecord(run, first_step, settings, accelerator)
    with record.progress:
        for step in range(first_step, settings.max_steps):
            if record.has_stalled:
                break
            _take_step(step, stepper, record, loss_model, evaluate)
    stepper.prepared.eval()
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
) -> tuple[Stepper, int]:
    """What steps are made with, and the first step to take: sharded or wrapped, and as the newest checkpoint has it."""
    wait_for_all(accelerator)
    is_sharded = wants_sharding(accelerator)
    if is_sharded:
        shard(loss_model, accelerator, optimizers)
    first_step = _resume(loss_model, optimizers, run, accelerator) if settings.resume else 0
    stepper = Stepper(
        prepared=loss_model if is_sharded else accelerator.prepare_model(loss_model),
        is_sharded=is_sharded,
        batches=batches,
        optimizers=optimizers,
        settings=settings,
        accelerator=accelerator,
        unit=unit,
    )
    return stepper, first_step


def _take_step(
    step: int,
    stepper: Stepper,
    record: RunRecord,
    loss_model: nn.Module,
    evaluate: Callable[[int], Mapping[str, Any]],
) -> None:
    """One update, with the evaluation, the line of metrics and the checkpoint that are due after it."""
    settings = stepper.settings
    stepper.prepared.train()
    _set_learning_rates(stepper.optimizers, learning_rate_factor(step, settings))
    metrics = stepper.take(step)
    metrics |= record.pace.after(metrics["tokens"])
    done = step + 1
    if done == settings.max_steps or _is_due(done, settings.evaluation_steps):
        stepper.prepared.eval()
        with whole_for_reading(loss_model):
            evaluation = evaluate(done)
        wait_for_all(stepper.accelerator)  # the main process may have asked the model a while longer
        record.compare(done, evaluation, loss_model)
        metrics |= evaluation
    record.write({"step": done, **metrics})
    is_last = done == settings.max_steps or record.has_stalled
    if settings.checkpoint_steps and (is_last or _is_due(done, settings.checkpoint_steps)):
        _save(loss_model, stepper.optimizers, done, record.run, stepper.accelerator)


def record_start(evaluate: Callable[[int], Mapping[str, Any]], run: RunFolder, accelerator: Accelerator) -> None:
    """Notes as step 0 what the model is like before training; that line has no loss of a batch."""
    with progress("the model before training"):
        wait_for_all(accelerator)  # the main process may have asked a model alone before
    figures = evaluate(0)
    wait_for_all(accelerator)
    if accelerator.is_main_process:
        metrics = {"step": 0, "tokens": 0, "seconds": 0.0, **figures}
        run.append_metrics(metrics)
        log_numbers(accelerator, metrics)


def start_run(run: RunFolder, settings: RunSettings, accelerator: Accelerator, facts: Mapping[str, Any]) -> RunFolder:
    """The run's folder, made or checked by the main process, known to every process; trackers start with it."""
    wait_for_all(accelerator)  # nobody may still be looking whether the folder is free
    if accelerator.is_main_process:
        facts = {"world_size": accelerator.num_processes, "sharded": wants_sharding(accelerator), **facts}
        run = run.start(dataclasses.asdict(settings), facts, resume=settings.resume)
    started: RunFolder = broadcast_object_list([run])[0]
    start_trackers(accelerator, started.path, dataclasses.asdict(settings))
    return started


def held_out_loss(
    loss_model: nn.Module, micro_batches: Sequence[MicroBatch], accelerator: Accelerator
) -> tuple[float, int]:
    """Summed nats and the number of targets over all micro-batches, which the processes share between them.

    What is held out measures: the micro-batches bring no weights, each target counts 1.
    """
    was_training = loss_model.training
    loss_model.eval()
    nats = torch.zeros((), dtype=torch.float64)
    targets = 0
    with torch.no_grad(), accelerator.autocast():
        mine = micro_batches[accelerator.process_index :: accelerator.num_processes]
        for micro_batch in tracked(mine, "held-out loss", "micro-batches"):
            nats += loss_model(**to_device(micro_batch, accelerator)).cpu().double()
            targets += count_targets(micro_batch)
    loss_model.train(was_training)
    total = sum_over_processes([float(nats), float(targets)], accelerator)
    return total[0], int(total[1])


def _save(
    loss_model: nn.Module, optimizers: Sequence[Optimizer], step: int, run: RunFolder, accelerator: Accelerator
) -> None:
    """A checkpoint of whole tensors, so that any number of processes may go on from it, sharded or not."""
    keep = accelerator.is_main_process
    with progress("writing a checkpoint"):
        tensors = {"trained": whole_tensors(loss_model, keep=keep)}
        for number, optimizer in enumerate(optimizers):
            tensors[f"optimizer_{number}"] = optimizer_tensors(optimizer, keep=keep)
        if keep:
            save_checkpoint(Checkpoint(step=step, tensors=tensors, state={}), run.checkpoints)


def _resume(loss_model: nn.Module, optimizers: Sequence[Optimizer], run: RunFolder, accelerator: Accelerator) -> int:
    checkpoint, passed_over = load_newest_checkpoint(run.checkpoints)
    for problem in passed_over:
        accelerator.print(f"passed over {problem}")
    if accelerator.is_main_process:
        run.drop_metrics_after(checkpoint.step)
    parameters = dict(loss_model.named_parameters())
    with torch.no_grad():
        for name, tensor in checkpoint.tensors["trained"].items():
            parameters[name].copy_(spread_like(parameters[name], tensor))
    for number, optimizer in enumerate(optimizers):
        load_optimizer_tensors(optimizer, checkpoint.tensors[f"optimizer_{number}"])
    return checkpoint.step


def _set_learning_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_learning_rate", group["lr"]) * factor


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
