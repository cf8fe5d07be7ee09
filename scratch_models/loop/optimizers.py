"""Optimizers and the course of their learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from configs import InputError
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.sharding import gather_tensors, spread_like


class BatchedMuon(torch.optim.Muon):
    """torch's Muon, the matrices of one shape at once, and on a CPU in their own precision.

    Small matrices, one after the other, keep a processor busy with calls; a CPU without bfloat16 products takes longer
    for them than for single precision.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of everything that has a gradient."""
        if closure is not None or any(isinstance(p, DTensor) for group in self.param_groups for p in group["params"]):
            return super().step(closure)
        for group in self.param_groups:
            of_one_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    of_one_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in of_one_shape.values():
                self._update(parameters, group)
        return None

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients: list[Tensor] = []
        buffers: list[Tensor] = []
        self._init_group({"params": parameters}, [], gradients, buffers)
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, buffers, group["momentum"]) if group["nesterov"] else buffers
        orthogonal = orthogonalised(torch.stack(list(updates)), group["ns_coefficients"], group["ns_steps"])
        rate = group["lr"] * max(1, parameters[0].shape[0] / parameters[0].shape[1]) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(orthogonal), alpha=-rate)


def orthogonalised(matrices: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Matrices whose singular values Newton and Schulz's iteration drives towards 1: (N, R, C) -> (N, R, C)."""
    a, b, c = coefficients
    is_tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if is_tall else matrices  # (N, r, c), r at most c
    wide = wide if wide.device.type == "cpu" else wide.bfloat16()
    wide = wide / wide.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(steps):
        gram = torch.bmm(wide, wide.mT)  # (N, r, r)
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide.mT if is_tall else wide).to(matrices.dtype)


def make_optimizers(
    model: nn.Module,
    settings: LoopSettings,
    *,
    muon_learning_rate: float | None = None,
    table_learning_rate: float | None = None,
    adam_beta2: float = 0.999,
) -> list[Optimizer]:
    """AdamW on everything that trains; with `muon_learning_rate`, Muon on the matrices inside the blocks instead.

    Embedding tables learn at `table_learning_rate` where it is given, as fast as the rest where not. Muon: Jordan et
    al. 2024, https://kellerjordan.github.io/posts/muon/. Embeddings and head stay with AdamW, as there.

    Raises:
        InputError: every parameter is frozen, or Muon is asked for and there is no matrix inside a block.

    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise InputError("nothing to train: every parameter is frozen")
    optimizers: list[Optimizer] = []
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if muon_learning_rate is not None:
        hidden = [
            name
            for name, parameter in named.items()
            if parameter.ndim == 2 and ".blocks." in f".{name}" and id(parameter) not in tables
        ]
        if not hidden:
            raise InputError("muon_learning_rate: the model has no blocks for Muon to train, leave it out")
        optimizers.append(BatchedMuon([named.pop(name) for name in hidden], muon_learning_rate, weight_decay=0.0))
    apart = tables if table_learning_rate is not None else set()
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": table_learning_rate, "weight_decay": settings.weight_decay},
        {"params": [], "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
        {"params": [], "lr": settings.learning_rate, "weight_decay": 0.0},  # vectors
    ]
    for parameter in named.values():
        groups[0 if id(parameter) in apart else 1 if parameter.ndim >= 2 else 2]["params"].append(parameter)
    return [*optimizers, adamw(groups, adam_beta2)]


def adamw(groups: Sequence[dict[str, Any]], adam_beta2: float = 0.999) -> Optimizer:
    """AdamW on the groups that hold a parameter, in one kernel; each group's `lr` is its peak."""
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, adam_beta2), fused=True)


def learning_rate_factor(step: int, settings: LoopSettings) -> float:
    """The share of its peak that the learning rate has in a step, the first step being 0.

    >>> settings = LoopSettings(max_steps=100, learning_rate=1e-3, warmup_steps=10, schedule="cosine")
    >>> [round(learning_rate_factor(step, settings), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(settings.max_steps - settings.warmup_steps, 1)
    if settings.schedule == "linear":
        return 1 - progress
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Gives each group this share of its peak rate, which is the rate that it was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_learning_rate", group["lr"]) * factor


def optimizer_tensors(optimizer: Optimizer, *, keep: bool = True) -> dict[str, Tensor]:
    """An optimizer's state as named tensors: `<parameter index>.<key>`; where it is sharded, all processes must call.

    Those that do not `keep` it get nothing.
    """
    return gather_tensors(named_state(optimizer), keep=keep)


def named_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as it holds it, whole or in slices: `<parameter index>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, values in state.items() for key, value in values.items()}


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took out; the groups keep the settings that the optimizer was made with."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    put_state(
        optimizer, {name: spread_like(weights[int(name.partition(".")[0])], one) for name, one in tensors.items()}
    )


def put_state(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `named_state` gave, whole or sliced as the weights are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
