"""Parameters spread over processes (FSDP2), on CPU and GPU alike, and brought together again.

Each process holds a slice of every parameter, of its gradient and of its optimizer state. A block's parameters are
whole only while that block computes; what stands outside the blocks is whole for one forward and backward.
Zhao et al. 2023, https://arxiv.org/abs/2304.11277; https://docs.pytorch.org/docs/2.13/distributed.fsdp.fully_shard.html.

`gather_model` ends it: the modules are what they were before, down to the same parameter objects, so that whatever
follows a training (folding, export, certificates) need not know that it was sharded.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from torch.distributed import is_available, is_initialized
from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY
from torch.distributed._composable_state import _module_state_mapping
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from scratch_models.loop.devices import make_mesh, offload_policy

HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)

Before = tuple[type[nn.Module], dict[str, nn.Parameter | None]]
"""The class of a module and its own parameters, as they were before it was sharded."""

_before: WeakKeyDictionary[nn.Module, Before] = WeakKeyDictionary()


def wants_sharding(accelerator: Accelerator) -> bool:
    """Whether this launch asks for FSDP: accelerate itself forgets it where there is no GPU, and would run DDP."""
    return parse_flag_from_env("ACCELERATE_USE_FSDP") and is_available() and is_initialized()


def shard(loss_model: nn.Module, accelerator: Accelerator, optimizers: Sequence[Optimizer] = ()) -> None:
    """Spreads every parameter over all processes, block by block, in place; the optimizers then update the slices.

    The optimizers have no state yet: their first step makes it slice by slice.
    """
    originals = dict(loss_model.named_parameters())
    before = as_they_are(loss_model)
    for parameter in originals.values():
        parameter.data = parameter.data.contiguous()  # which FSDP asks for
    mesh, policy = make_mesh(accelerator), offload_policy()
    for block in blocks_of(loss_model):
        fully_shard(block, mesh=mesh, reshard_after_forward=True, offload_policy=policy)
    fully_shard(loss_model, mesh=mesh, reshard_after_forward=False, offload_policy=policy)
    _before.update(before)
    slices = dict(loss_model.named_parameters())
    _exchange(optimizers, {id(original): slices[name] for name, original in originals.items()})
    for parameter in originals.values():
        parameter.data = parameter.data.new_empty(0)  # the optimizer's caller may hold them still


def is_sharded(loss_model: nn.Module) -> bool:
    """Whether the parameters are slices now."""
    return any(module in _before for module in loss_model.modules())


def class_before_sharding(module: nn.Module) -> type[nn.Module]:
    """The class of a module; of one that is sharded the class that it had before, and will have again."""
    return _before[module][0] if module in _before else type(module)


def computes_in_step(loss_model: nn.Module) -> bool:
    """Whether its processes must run it all together, also where they only read it: it was never whole in any.

    So is a model whose slices were read from files (`scratch_models/sharded`), where the root is not the loss.
    """
    return is_sharded(loss_model) and not isinstance(loss_model, FSDPModule)


def gather_model(model: nn.Module, optimizers: Sequence[Optimizer] = ()) -> None:
    """Makes the model what it was before `shard`, with whole, plain parameters in every process, in place.

    Every process must call it. The optimizers get their parameters back and forget their state, which nothing needs
    any more and which would be the largest thing in memory. A model that is not sharded stays as it is.
    """
    sharded = [module for module in model.modules() if module in _before]
    for module in sharded:
        if isinstance(module, FSDPModule):
            module.reshard()
    whole: dict[nn.Parameter, nn.Parameter] = {}  # by slice: a tied one comes twice
    for module in sharded:
        kind, parameters = _before.pop(module)
        _take_out_hooks(module)
        module.__class__ = kind
        for name, original in parameters.items():
            if original is not None:
                module._parameters[name] = _refill(original, module._parameters[name], whole)
    for optimizer in optimizers if sharded else ():
        optimizer.state.clear()
    _exchange(optimizers, {id(part): original for part, original in whole.items()})


@contextmanager
def whole_for_reading(loss_model: nn.Module) -> Iterator[None]:
    """Every parameter whole in every process, so that each may run any part of the model, or none, without the others.

    Evaluation needs it: processes read different numbers of micro-batches, and only the main one lets the model reply.
    FSDP's hooks are out meanwhile: they would note in which order the blocks ran, and expect the same of every process.
    A model that computes in step stays as it is.
    """
    if computes_in_step(loss_model):
        yield
        return
    sharded = [module for module in loss_model.modules() if isinstance(module, FSDPModule)]
    forward_hooks = [hooks for module in sharded for hooks in (module._forward_pre_hooks, module._forward_hooks)]
    taken = [(hooks, take_out(hooks)) for hooks in forward_hooks]
    for module in sharded:
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
        for hooks, before in taken:
            hooks.clear()
            hooks.update(before)


def whole_tensors(loss_model: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """What trains, by name and whole; every process must call it, those that do not `keep` it get nothing."""
    return gather_tensors(
        {name: weight for name, weight in loss_model.named_parameters() if weight.requires_grad}, keep=keep
    )


def gather_tensors(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """The tensors, whole; slices are gathered one after the other, into the memory of the CPU."""
    whole = {}
    for name, tensor in tensors.items():
        found = gather_tensor(tensor.detach()) if isinstance(tensor, DTensor) else tensor.detach()
        if keep:
            whole[name] = found.cpu() if isinstance(tensor, DTensor) else found
    return whole


def gather_tensor(tensor: Tensor) -> Tensor:
    """A tensor that is whole: the same, or what all processes hold of it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_empty(tensor: Tensor) -> bool:
    """Whether a tensor is a single number that stands for all: it has a shape and takes no memory."""
    return tensor.ndim > 0 and tensor.numel() > 0 and not any(tensor.stride())


def spread_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Of a whole tensor that every process has, this one's slice where the parameter is sliced and of that shape."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    on_device = tensor.to(parameter.device)
    return distribute_tensor(on_device, parameter.device_mesh, parameter.placements, src_data_rank=None)


def as_they_are(model: nn.Module) -> dict[nn.Module, Before]:
    """Class and own parameters of each module."""
    return {module: (type(module), dict(module._parameters)) for module in model.modules()}


def remember(before: Mapping[nn.Module, Before]) -> None:
    """Notes what `gather_model` shall make of modules that were sharded."""
    _before.update(before)


def blocks_of(loss_model: nn.Module) -> list[nn.Module]:
    """The members of the outermost module lists: a model's repeated blocks, each once."""
    lists = {name: module for name, module in loss_model.named_modules() if isinstance(module, nn.ModuleList)}
    outermost = [blocks for name, blocks in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
    return list(dict.fromkeys(block for blocks in outermost for block in blocks))


def _exchange(optimizers: Sequence[Optimizer], parameters: Mapping[int, nn.Parameter]) -> None:
    """Puts, for each parameter of the optimizers, the one named by its id."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [parameters.get(id(parameter), parameter) for parameter in group["params"]]


@torch.no_grad()
def _refill(original: nn.Parameter, part: Tensor | None, whole: dict[nn.Parameter, nn.Parameter]) -> nn.Parameter:
    assert isinstance(part, nn.Parameter)
    if part not in whole:
        if not is_empty(original):
            original.data, original.grad = gather_tensor(part.detach()), None
        whole[part] = original
    return whole[part]


def _take_out_hooks(module: nn.Module) -> None:
    """Leaves nothing of FSDP in a module: torch has no public way to undo `fully_shard`."""
    for name in HOOKS:
        take_out(getattr(module, name))
    _module_state_mapping.pop(module, None)
    for name in (STATE_KEY, REGISTRY_KEY):
        vars(module).pop(name, None)


def take_out(hooks: dict[int, Any]) -> dict[int, Any]:
    """Takes FSDP's hooks out of some; returns all that were there."""
    before = dict(hooks)
    for key, hook in before.items():
        if hook.__module__.startswith("torch.distributed.fsdp"):
            del hooks[key]
    return before
