"""The state of a training run saved as a checkpoint, and put back when the run goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from configs import InputError
from scratch_models.checkpoints.checkpoint import (
    KEPT,
    Checkpoint,
    clear_half_removed,
    drop_older,
    find_other_tensor,
    list_checkpoints,
    load_newest_checkpoint,
    save_checkpoint,
)
from scratch_models.launch.waiting import first_said
from scratch_models.loop.optimizers import load_optimizer_tensors, optimizer_tensors
from scratch_models.loop.run_folder import RECORD, RunFolder
from scratch_models.loop.sharding import is_sharded, spread_like, whole_tensors
from scratch_models.loop.slice_checkpoints import (
    find_not_finite_here,
    find_slices,
    held_state,
    load_slices,
    save_slices,
    saves_slices,
)
from tokenizer_ext.pages.progress import progress


@dataclass(frozen=True)
class Start:
    """Where the loop begins."""

    step: int
    """Optimizer steps done."""
    unevaluated: dict[str, Any] | None = None
    """What is said of the last of them, where the run ended before its evaluation was over."""


def save_training(
    loss_model: nn.Module,
    optimizers: Sequence[Optimizer],
    step: int,
    run: RunFolder,
    accelerator: Accelerator,
    unevaluated: Mapping[str, Any] | None = None,
    *,
    kept: int = KEPT,
) -> None:
    """A checkpoint from which any number of processes may go on, sharded or not.

    Where no process holds the model and all of it trains, each writes its slices. Every process must call it, and where
    one fails all do; but where the evaluation of this step is still due, and `unevaluated` is given, the main process
    came out of it alone and saves alone.

    Raises:
        InputError: something is not finite in some process, or the disk does not take it.

    """
    is_alone = unevaluated is not None
    in_slices, is_main = saves_slices(loss_model), accelerator.is_main_process
    tensors = _state(loss_model, optimizers, keep=is_main or not is_sharded(loss_model))
    problem = _not_finite(step, tensors, accelerator)
    if not is_alone:
        problem = first_said(problem, accelerator)
    if problem is None and (is_main or in_slices):
        state = {} if unevaluated is None else {"unevaluated": dict(unevaluated)}
        save = partial(save_slices, accelerator=accelerator) if in_slices else save_checkpoint
        try:
            with progress("writing a checkpoint"):
                save(Checkpoint(step=step, tensors=tensors, state=state), run.checkpoints, kept=kept)
        except InputError as error:
            problem = str(error)
    if not is_alone:
        problem = first_said(problem, accelerator)
    if problem is not None:
        raise InputError(problem)


def _state(loss_model: nn.Module, optimizers: Sequence[Optimizer], *, keep: bool) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint holds of this process: its slices, or whole tensors where it does `keep` any."""
    if saves_slices(loss_model):
        return held_state(loss_model, optimizers)
    return whole_state(loss_model, optimizers, keep=keep)


def _not_finite(step: int, tensors: Mapping[str, Mapping[str, Tensor]], accelerator: Accelerator) -> str | None:
    found = find_not_finite_here(tensors)
    if found is None:
        return None
    where = f" in process {accelerator.process_index}" if accelerator.num_processes > 1 else ""
    return (
        f"step {step}: {found}{where}, expected finite numbers: this step is not saved, and the checkpoints before it "
        "stay: lower learning_rate and start again, or go on from them with --resume"
    )


def _say_other_processes(loss_model: nn.Module, run: RunFolder, accelerator: Accelerator) -> None:
    now = accelerator.num_processes
    before = run.record().get("world_size") if (run.path / RECORD).is_file() else None
    if before not in (None, now) and has_dropout(loss_model):
        accelerator.print(
            f"{run.path}: was started with {before} processes and goes on with {now}: each step reads the same, but "
            "every process draws the noise of dropout for itself, so this is another run than the unbroken one"
        )


def has_dropout(model: nn.Module) -> bool:
    """Whether the model draws noise while it trains, in layers of their own or inside of others."""
    return any(
        isinstance(value, float) and value > 0 and (name == "p" or "drop" in name)
        for module in model.modules()
        for name, value in vars(module).items()
        if "drop" in name or isinstance(module, nn.Dropout)
    )


def whole_state(
    loss_model: nn.Module, optimizers: Sequence[Optimizer], *, keep: bool = True
) -> dict[str, dict[str, Tensor]]:
    """What trains, and the state of what trains it, whole; where it is sharded, all processes must call."""
    states = {
        f"optimizer_{number}": optimizer_tensors(optimizer, keep=keep) for number, optimizer in enumerate(optimizers)
    }
    return {"trained": whole_tensors(loss_model, keep=keep), **states}


def resume_training(
    loss_model: nn.Module,
    optimizers: Sequence[Optimizer],
    run: RunFolder,
    accelerator: Accelerator,
    *,
    kept: int = KEPT,
) -> Start:
    """Puts back what the newest whole checkpoint holds; without any the run begins where it began.

    Raises:
        InputError: there are checkpoints, and none of them is whole.

    """
    if accelerator.is_main_process:
        clear_half_removed(run.checkpoints)
        clear_half_removed(run.best)
    if not list_checkpoints(run.checkpoints):
        accelerator.print(f"{run.path}: was ended before its first checkpoint, so it starts from the first step")
        if accelerator.is_main_process:
            run.drop_metrics_after(0)
        return Start(0)
    in_slices = saves_slices(loss_model)
    if in_slices:
        path, checkpoint, passed_over = find_slices(run.checkpoints, accelerator)
    else:
        checkpoint, passed_over = load_newest_checkpoint(run.checkpoints)
    for problem in passed_over:
        accelerator.print(f"passed over {problem}")
    check_fits(checkpoint, loss_model, optimizers, run)
    unevaluated = checkpoint.state.get("unevaluated")
    _say_other_processes(loss_model, run, accelerator)
    if accelerator.is_main_process:
        drop_older(run.checkpoints, kept=kept, step=checkpoint.step)  # the save was not over that would have done it
        run.drop_metrics_after(checkpoint.step if unevaluated is None else checkpoint.step - 1)
    if in_slices:
        load_slices(loss_model, optimizers, path, checkpoint, accelerator)
    else:
        _put_back(checkpoint, loss_model, optimizers)
    return Start(checkpoint.step, unevaluated)


@torch.no_grad()
def _put_back(checkpoint: Checkpoint, loss_model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    parameters = dict(loss_model.named_parameters())
    for name, tensor in checkpoint.tensors["trained"].items():
        parameters[name].copy_(spread_like(parameters[name], tensor))
    for number, optimizer in enumerate(optimizers):
        load_optimizer_tensors(optimizer, checkpoint.tensors[f"optimizer_{number}"])


def check_fits(checkpoint: Checkpoint, loss_model: nn.Module, optimizers: Sequence[Optimizer], run: RunFolder) -> None:
    """Refuses a checkpoint, perhaps of somebody else, that holds other tensors than those that train here.

    Raises:
        InputError: it does; the message names one of them.

    """
    trained = {name: weight for name, weight in loss_model.named_parameters() if weight.requires_grad}
    problem = find_other_tensor(trained, checkpoint.tensors.get("trained", {}))
    for number, optimizer in enumerate(optimizers):
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        states = checkpoint.tensors.get(f"optimizer_{number}")
        problem = problem or ("has no state of the optimizer" if states is None else _foreign_state(weights, states))
    if problem:
        raise InputError(
            f"{run.checkpoints}: the checkpoint of step {checkpoint.step} {problem}: it is of another run, or was "
            "changed: start a new run"
        )


def _foreign_state(weights: Sequence[Tensor], states: Mapping[str, Tensor]) -> str | None:
    """A tensor that is no state of any of the weights; None where all are: of a weight's shape, or one number."""
    for name, tensor in states.items():
        index, _, key = name.partition(".")
        is_known = index.isascii() and index.isdigit() and int(index[:9]) < len(weights) and bool(key)
        if not is_known or (tensor.numel() > 1 and tensor.shape != weights[int(index)].shape):
            return f"holds {tuple(tensor.shape)} as {name!r:.60} of an optimizer, which is the state of nothing here"
    return None
