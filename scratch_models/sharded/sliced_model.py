"""A model that is sharded before it has weights: each process then reads its slices from the disk, and never more.

    fill_with_nothing(model)        shapes, types and a device; no memory
    (adapters are attached, whole and from the seed, as to any model)
    sliced = SlicedModel(...)       `fully_shard`, block by block, on the meta device
    sliced.load()                   slices of the frozen weights from safetensors

The root is what makes hidden states; every block is whole while it computes. The tables of tokens, which are frozen,
are whole while they are read: the embedding by its own forward, the head by whoever wants logits (`whole_rows`). So
every process must run the model together with all others, from the first forward to the last one.

FSDP2 on the meta device: https://docs.pytorch.org/docs/2.13/distributed.fsdp.fully_shard.html, "Meta-device init".
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils import swap_tensors

from scratch_models.loop.devices import offload_policy
from scratch_models.loop.sharding import as_they_are, blocks_of, gather_model, is_empty, remember, take_out
from scratch_models.sharded.stored_slices import read_rows
from tokenizer_ext.foreign.weight_headers import StoredTensor
from tokenizer_ext.pages.progress import tracked

UNDER_ADAPTER = ".base_layer."
"""What peft puts into the name of a weight that has an adapter on it."""


def fill_with_nothing(model: nn.Module, device: torch.device) -> None:
    """Gives every parameter of a model on the meta device its place on a real one, where it takes no memory.

    All its numbers are one zero. Shape, type and device are true, so that whatever asks for those goes on.
    """

    def place(_name: str, parameter: nn.Parameter) -> nn.Parameter:
        nothing = torch.zeros((), dtype=parameter.dtype, device=device).expand(parameter.shape)
        return nn.Parameter(nothing, requires_grad=parameter.requires_grad)

    _exchange_parameters(model, place)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)


@contextmanager
def whole_rows(table: nn.Module) -> Iterator[None]:
    """The rows of a table whole meanwhile, where they are spread over processes, which must all come here."""
    is_spread = any(isinstance(one, DTensor) for one in table.parameters(recurse=False))
    if not (is_spread and isinstance(table, FSDPModule)):
        yield
        return
    table.unshard()
    try:
        yield
    finally:
        table.reshard()


@dataclass
class SlicedModel:
    """A model spread over processes, whose frozen weights stand on the disk."""

    model: nn.Module
    root: nn.Module
    """What of it makes hidden states: its embedding and blocks are inside, its head is not."""
    tables: Sequence[nn.Module]
    """Embedding and head, both frozen; they may share one table."""
    stored: Mapping[str, StoredTensor]
    """Of each frozen weight, by its name in the model before adapters were attached."""
    device: torch.device
    _hashes: dict[str, str] = field(default_factory=dict)
    """Of this process's slices, as they were read."""

    def shard(self, mesh: DeviceMesh) -> None:
        """Spreads what trains, and the places of what does not, over the processes."""
        policy = offload_policy()
        remember(as_they_are(self.model))
        trained = [one for one in self.model.parameters() if not is_empty(one)]
        _exchange_parameters(self.model, self._on_meta)
        for block in blocks_of(self.root):
            fully_shard(block, mesh=mesh, reshard_after_forward=True, offload_policy=policy)
            if self.device.type == "cpu" and isinstance(block, FSDPModule):
                # Nothing is sent while a CPU computes: to ask for the next block early would only hold two at a time.
                block.set_modules_to_backward_prefetch([block])
        for group in self._groups():
            fully_shard(
                group if len(group) > 1 else group[0], mesh=mesh, reshard_after_forward=True, offload_policy=policy
            )
            for table in group:
                _make_whole_while_it_runs(table)
        fully_shard(self.root, mesh=mesh, reshard_after_forward=True, offload_policy=policy)
        for parameter in trained:
            parameter.data = parameter.data.new_empty(0)  # the slices are copies

    def load(self) -> str | None:
        """Reads this process's slices; returns what is wrong with the numbers of one, or None.

        Raises:
            InputError: a file is shorter than its header says.

        """
        problem = None
        for name, parameter in tracked(list(self.model.named_parameters()), "reading slices", "tensors"):
            if not (isinstance(parameter, DTensor) and parameter.to_local().is_meta):
                continue
            tensor = read_rows(name, self._stored(name), *_rows_here(parameter)).to(parameter.dtype)
            self._hashes[name] = _sha256(tensor)
            if problem is None and not bool(torch.isfinite(tensor).all()):
                problem = f"{name} holds NaN or infinity, expected finite weights: get the model anew"
            _fill(parameter, tensor if isinstance(offload_policy(), CPUOffloadPolicy) else tensor.to(self.device))
        return problem

    def find_changed(self) -> str | None:
        """The name of a frozen weight of which this process's slice is not what was read; None where none is."""
        for name, parameter in self.model.named_parameters():
            if name in self._hashes and _sha256(_local(parameter)) != self._hashes[name]:
                return name
        return None

    def leave(self, optimizers: Sequence[Optimizer] = ()) -> None:
        """What trained whole in every process, what did not without memory, as before `shard`; all must call it."""
        for table in self.tables:
            table._forward_pre_hooks.clear()
            table._forward_hooks.clear()
        gather_model(self.model, optimizers)

    def _stored(self, name: str) -> StoredTensor:
        return self.stored[name.replace(UNDER_ADAPTER, ".")]

    def _on_meta(self, _name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        if not is_empty(parameter):
            return None
        return nn.Parameter(torch.empty_like(parameter, device="meta").contiguous(), requires_grad=False)

    def _groups(self) -> list[list[nn.Module]]:
        """The tables, those together that share their rows."""
        by_weight: dict[int, list[nn.Module]] = {}
        for table in self.tables:
            by_weight.setdefault(id(table.weight), []).append(table)
        return list(by_weight.values())


def _exchange_parameters(model: nn.Module, make: Callable[[str, nn.Parameter], nn.Parameter | None]) -> None:
    """Puts another parameter in the place of each for which one is made, in every module that shares it."""
    made = {old: new for name, old in model.named_parameters() if (new := make(name, old)) is not None}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter in made:
                module._parameters[name] = made[parameter]


def _make_whole_while_it_runs(table: nn.Module) -> None:
    """Has a table brought together for its own forward alone, in the place of FSDP's hooks.

    Those would keep tied tables whole until the head has run, which a loss reads without running it.
    """
    for hooks in (table._forward_pre_hooks, table._forward_hooks):
        take_out(hooks)

    def bring_together(module: nn.Module, _inputs: object) -> None:
        assert isinstance(module, FSDPModule)
        module.unshard()

    def spread(module: nn.Module, _inputs: object, _output: object) -> None:
        assert isinstance(module, FSDPModule)
        module.reshard()

    table.register_forward_pre_hook(bring_together)
    table.register_forward_hook(spread)


def _rows_here(parameter: DTensor) -> tuple[int, int]:
    """The first row of this process's slice, and how many rows it has: as `torch.chunk` cuts them."""
    mesh = parameter.device_mesh
    each = math.ceil(parameter.shape[0] / mesh.size(mesh.ndim - 1))
    return min(mesh.get_local_rank(mesh.ndim - 1) * each, parameter.shape[0]), parameter.to_local().shape[0]


def _fill(parameter: DTensor, local: Tensor) -> None:
    """Gives a parameter on the meta device its slice; it stays the object that FSDP and the optimizers know."""
    mesh, placements = parameter.device_mesh, parameter.placements
    shape, stride = parameter.shape, parameter.stride()
    filled = DTensor.from_local(local, mesh, placements, run_check=False, shape=shape, stride=stride)
    swap_tensors(parameter, nn.Parameter(filled, requires_grad=parameter.requires_grad))


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data).hexdigest()
