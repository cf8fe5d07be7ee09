"""The one training loop, for models from scratch and for fine-tuning alike.

A model under training is a module whose forward takes one micro-batch and returns the summed loss in nats of its
targets; the loop divides by the targets of the whole global batch. So the loss is the mean per supervised token
whatever the number of processes and micro-batches. What a step reads, and the noise of its dropout, are functions of
seed and step: a run that resumes from a checkpoint goes on as the unbroken one would have.

Shapes: B rows of a micro-batch, T tokens of a row, V vocabulary.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from configs import InputError
from scratch_models.checkpoint import (
    Checkpoint,
    load_newest_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from scratch_models.corpus import IGNORED_TARGET
from scratch_models.loop_settings import LoopSettings
from scratch_models.optimizers import learning_rate_factor
from scratch_models.run_folder import RunFolder
from scratch_models.seeds import mixed_seed

MicroBatch = dict[str, Tensor]
"""`input_ids` and `targets`, each (B, T); a target is the id that follows, or -100 where nothing is learned."""


class Batches(Protocol):
    """Where micro-batches come from."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """What one process reads in one step: a function of the arguments alone, at least one micro-batch."""


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
    evaluate: Callable[[int], Mapping[str, float]],
    count: "Callable[[MicroBatch], int] | None" = None,
) -> None:
    """Trains the parameters that require a gradient, in place; metrics and checkpoints go to the run's folder.

    `evaluate(step)` is called in every process, and returns what the line of `metrics.jsonl` shows of it. A run that is
    resumed after its last step does nothing more. `count(micro_batch)` says how many units the loss is averaged over:
    by default its learned targets.

    Raises:
        InputError: a loss or gradient is not finite, before the update that it would have spoilt.

    """
    first_step = _resume(loss_model, optimizers, run, accelerator) if settings.resume else 0
    prepared = accelerator.prepare_model(loss_model)
    count = count or count_targets
    pace = _Pace(run.read_metrics())
    progress = tqdm(
        total=settings.max_steps,
        initial=first_step,
        unit="step",
        disable=not accelerator.is_main_process,
        dynamic_ncols=True,
    )
    for step in range(first_step, settings.max_steps):
        prepared.train()
        _set_learning_rates(optimizers, learning_rate_factor(step, settings))
        metrics = _step(prepared, batches, optimizers, settings, accelerator, step, count)
        metrics |= pace.after(metrics["tokens"])
        done = step + 1
        if done == settings.max_steps or _is_due(done, settings.evaluation_steps):
            prepared.eval()
            metrics |= evaluate(done)
        if accelerator.is_main_process:
            run.append_metrics({"step": done, **metrics})
            progress.set_postfix_str(_postfix(metrics), refresh=False)
            progress.update()
            if _is_due(done, settings.checkpoint_steps) or (settings.checkpoint_steps and done == settings.max_steps):
                save_checkpoint(_state(loss_model, optimizers, done), run.checkpoints)
    progress.close()
    prepared.eval()
    accelerator.wait_for_everyone()


def record_start(evaluate: Callable[[int], Mapping[str, float]], run: RunFolder, accelerator: Accelerator) -> None:
    """Notes as step 0 what the model is like before training; that line has no loss of a batch."""
    figures = evaluate(0)
    if accelerator.is_main_process:
        run.append_metrics({"step": 0, "tokens": 0, "seconds": 0.0, **figures})


def start_run(run: RunFolder, settings: LoopSettings, accelerator: Accelerator, facts: Mapping[str, Any]) -> RunFolder:
    """The run's folder, made or checked by the main process, known to every process."""
    accelerator.wait_for_everyone()  # nobody may still be looking whether the folder is free
    if accelerator.is_main_process:
        facts = {"world_size": accelerator.num_processes, **facts}
        run = run.start(dataclasses.asdict(settings), facts, resume=settings.resume)
    started: RunFolder = broadcast_object_list([run])[0]
    return started


def held_out_loss(
    loss_model: nn.Module, micro_batches: Sequence[MicroBatch], accelerator: Accelerator
) -> tuple[float, int]:
    """Summed nats and the number of targets over all micro-batches, which the processes share between them."""
    was_training = loss_model.training
    loss_model.eval()
    nats = torch.zeros((), dtype=torch.float64)
    targets = 0
    with torch.no_grad(), accelerator.autocast():
        for micro_batch in micro_batches[accelerator.process_index :: accelerator.num_processes]:
            nats += loss_model(**_to_device(micro_batch, accelerator)).cpu().double()
            targets += count_targets(micro_batch)
    loss_model.train(was_training)
    total = _sum_over_processes([float(nats), float(targets)], accelerator)
    return total[0], int(total[1])


def count_tokens(micro_batch: MicroBatch) -> int:
    """How many tokens of a micro-batch are read for a target: those up to the last one that each row learns.

    >>> count_tokens({"input_ids": torch.tensor([[5, 6, 0]]), "targets": torch.tensor([[-100, 7, -100]])})
    2
    """
    learned = micro_batch["targets"] != IGNORED_TARGET  # (B, T)
    return int((learned.flip(1).cumsum(1) > 0).sum())


def count_targets(micro_batch: MicroBatch) -> int:
    """How many targets of a micro-batch are learned."""
    return int((micro_batch["targets"] != IGNORED_TARGET).sum())


def _step(
    prepared: nn.Module,
    batches: Batches,
    optimizers: Sequence[Optimizer],
    settings: LoopSettings,
    accelerator: Accelerator,
    step: int,
    count: Callable[[MicroBatch], int],
) -> dict[str, float]:
    micro_batches = batches.micro_batches(step, accelerator.process_index, accelerator.num_processes)
    supervised, tokens = _sum_over_processes(
        [
            float(sum(map(count, micro_batches))),
            float(sum(map(count_tokens, micro_batches))),
        ],
        accelerator,
    )
    torch.manual_seed(mixed_seed(settings.seed, step, accelerator.process_index))
    nats = _add_gradients(prepared, micro_batches, max(supervised, 1.0), accelerator)
    trained = [
        parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    ]
    norm = float(nn.utils.clip_grad_norm_(trained, settings.gradient_clip))
    loss_nats = _sum_over_processes([nats], accelerator)[0] / max(supervised, 1.0)
    if not (math.isfinite(loss_nats) and math.isfinite(norm)):
        raise InputError(
            f"step {step + 1}: loss {loss_nats} and gradient norm {norm}, expected finite numbers: stopped before the "
            "update; lower learning_rate, or look for broken weights in the base"
        )
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {
        "loss_nats": loss_nats,
        "learning_rate": optimizers[-1].param_groups[0]["lr"],
        "gradient_norm": norm,
        "tokens": int(tokens),
        "supervised_tokens": int(supervised),
    }


def _add_gradients(
    prepared: nn.Module, micro_batches: Sequence[MicroBatch], supervised: float, accelerator: Accelerator
) -> float:
    """Adds up the gradients of the mean over all `supervised` targets; returns the summed nats of this process."""
    nats = torch.zeros((), dtype=torch.float64)
    for number, micro_batch in enumerate(micro_batches):
        is_last = number == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(prepared):
            with accelerator.autocast():
                loss = prepared(**_to_device(micro_batch, accelerator))
            # DDP averages gradients over processes; times their number, the average is the sum that the mean needs.
            accelerator.backward(loss * (accelerator.num_processes / supervised))
        nats += loss.detach().cpu().double()
    return float(nats)


def _state(loss_model: nn.Module, optimizers: Sequence[Optimizer], step: int) -> Checkpoint:
    trained: dict[str, Tensor] = {name: one for name, one in loss_model.named_parameters() if one.requires_grad}
    tensors = {"trained": trained}
    tensors |= {f"optimizer_{number}": optimizer_tensors(optimizer) for number, optimizer in enumerate(optimizers)}
    return Checkpoint(step=step, tensors=tensors, state={})


def _resume(loss_model: nn.Module, optimizers: Sequence[Optimizer], run: RunFolder, accelerator: Accelerator) -> int:
    checkpoint, passed_over = load_newest_checkpoint(run.checkpoints)
    for problem in passed_over:
        accelerator.print(f"passed over {problem}")
    if accelerator.is_main_process:
        run.drop_metrics_after(checkpoint.step)
    parameters = dict(loss_model.named_parameters())
    with torch.no_grad():
        for name, tensor in checkpoint.tensors["trained"].items():
            parameters[name].copy_(tensor)
    for number, optimizer in enumerate(optimizers):
        load_optimizer_tensors(optimizer, checkpoint.tensors[f"optimizer_{number}"])
    return checkpoint.step


class _Pace:
    """How long a run has taken and how fast it is, what came before a resume included."""

    def __init__(self, earlier: Sequence[Mapping[str, float]]) -> None:
        self.tokens = sum(entry["tokens"] for entry in earlier)
        self.started = time.perf_counter() - (earlier[-1]["seconds"] if earlier else 0.0)

    def after(self, tokens: float) -> dict[str, float]:
        self.tokens += tokens
        seconds = time.perf_counter() - self.started
        return {"seconds": seconds, "tokens_per_second": self.tokens / seconds}


def _set_learning_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_learning_rate", group["lr"]) * factor


def _sum_over_processes(numbers: list[float], accelerator: Accelerator) -> list[float]:
    if accelerator.num_processes == 1:
        return numbers
    summed: Tensor = accelerator.reduce(torch.tensor(numbers, dtype=torch.float64, device=accelerator.device), "sum")
    return [float(number) for number in summed]


def _to_device(micro_batch: MicroBatch, accelerator: Accelerator) -> MicroBatch:
    return {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in micro_batch.items()}


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _postfix(metrics: Mapping[str, float]) -> str:
    shown = f"loss {metrics['loss_nats']:.3f}, {metrics['tokens_per_second']:.0f} tokens/s"
    held_out = metrics.get("held_out_loss_nats")
    return shown if held_out is None else f"{shown}, held-out {held_out:.3f}"
