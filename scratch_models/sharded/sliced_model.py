"""A model that is sharded before it has weights: each process then reads its slices from the disk, and never more.

    fill_with_nothing(model)        shapes, types and a device; no memory
    (adapters are attached, whole and from the seed, as to any model)
    sliced = SlicedModel(...)       `fully_shard`, block by block, on the meta device
    sliced.load()                   slices of the weights from safetensors

The root is what makes hidden states; every block is whole while it computes, on a CPU one matrix of it. The tables of
tokens never are (`vocabulary_parallel.py`). So every process must run the model together with all others, from the
first forward to the last one. The weights may train, all of them, or be frozen.

FSDP2 on the meta device: https://docs.pytorch.org/docs/2.13/distributed.fsdp.fully_shard.html, "Meta-device init".
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils import swap_tensors
from torch.utils.hooks import RemovableHandle

from scratch_models.loop.devices import offload_policy
from scratch_models.loop.sharding import as_they_are, blocks_of, gather_model, is_empty, remember
from scratch_models.sharded.gathered_once import ReleasedAllGather, hold_while_computing
from scratch_models.sharded.vocabulary_parallel import RowsHere, local_rows, spread_rows, spread_table, take_back_table
from tokenizer_ext.foreign.weight_headers import StoredTensor
from tokenizer_ext.held_weights.mapped_weights import map_rows, pieces
from tokenizer_ext.held_weights.stored_slices import TYPES, read_rows
from tokenizer_ext.pages.progress import tracked

UNDER_ADAPTER = ".base_layer."
"""What peft puts into the name of a weight that has an adapter on it."""
NUMBERS_AT_ONCE = 2**22
"""That are looked at."""


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


@dataclass
class SlicedModel:
    """A model spread over processes, whose weights stand on the disk."""

    model: nn.Module
    root: nn.Module
    """What of it makes hidden states: its embedding and blocks are inside, its head is not."""
    tables: Sequence[nn.Module]
    """Embedding and head; they may share one table."""
    stored: Mapping[str, StoredTensor]
    """Of each weight, by its name in the model before adapters were attached."""
    device: torch.device
    _hashes: dict[str, str] = field(default_factory=dict)
    """Of this process's frozen slices, as they were read."""
    _tables: set[nn.Parameter] = field(default_factory=set)
    """The parameters of the tables."""
    _handles: list[RemovableHandle] = field(default_factory=list)
    """Of the hooks that keep little whole."""

    def shard(self, mesh: DeviceMesh) -> None:
        """Spreads what trains, and the places of what does not, over the processes."""
        policy = offload_policy()
        remember(as_they_are(self.model))
        trained = [one for one in self.model.parameters() if not is_empty(one)]
        _exchange_parameters(self.model, self._on_meta)
        gather, blocks = ReleasedAllGather(), set(blocks_of(self.root))
        for part in self._parts():
            fully_shard(part, mesh=mesh, reshard_after_forward=True, offload_policy=policy)
            if self.device.type == "cpu":
                self._handles += hold_while_computing(part, gather, is_block=part in blocks)
        self._spread_tables(mesh)
        fully_shard(
            self.root, mesh=mesh, reshard_after_forward=True, offload_policy=policy, ignored_params=self._tables
        )
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
            here = RowsHere(len(parameter), parameter.device_mesh)
            tensor = read_rows(name, self._stored(name), here.first, here.number).to(parameter.dtype)
            if not parameter.requires_grad:
                self._hashes[name] = _sha256(tensor)
            if problem is None and not _is_finite(tensor):
                problem = f"{name} holds NaN or infinity, expected finite weights: get the model anew"
            if self._stays_in_file(name, parameter):
                tensor = map_rows(name, self._stored(name), here.first, here.number)
            is_offloaded = isinstance(offload_policy(), CPUOffloadPolicy) and parameter not in self._tables
            _fill(parameter, tensor if is_offloaded else tensor.to(self.device))
        return problem

    def find_changed(self) -> str | None:
        """The name of a frozen weight of which this process's slice is not what was read; None where none is."""
        for name, parameter in self.model.named_parameters():
            if name in self._hashes and _sha256(local_rows(parameter)) != self._hashes[name]:
                return name
        return None

    def find_different(self, stored: Mapping[str, StoredTensor]) -> str | None:
        """The name of a weight of which stored rows are not this process's slice, bit for bit; None where none is."""
        for name, parameter in tracked(list(self.model.named_parameters()), "reading slices again", "tensors"):
            assert isinstance(parameter, DTensor)
            here, mine = RowsHere(len(parameter), parameter.device_mesh), local_rows(parameter).detach().cpu()
            if _sha256(read_rows(name, stored[name], here.first, here.number)) != _sha256(mine):
                return name
        return None

    def leave(self, optimizers: Sequence[Optimizer] = ()) -> None:
        """What trained whole in every process, what did not without memory, as before `shard`; all must call it."""
        for table in self.tables:
            take_back_table(table)
        for handle in self._handles:
            handle.remove()
        gather_model(self.model, optimizers)

    def _stored(self, name: str) -> StoredTensor:
        return self.stored[name.replace(UNDER_ADAPTER, ".")]

    def _stays_in_file(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether few of a slice's rows are ever asked for, and they may be mapped: those of a lookup, on a CPU."""
        is_lookup = any(isinstance(table, nn.Embedding) and table.weight is parameter for table in self.tables)
        is_as_stored = TYPES[self._stored(name).type] == parameter.dtype and not parameter.requires_grad
        return is_lookup and is_as_stored and self.device.type == "cpu"

    def _on_meta(self, _name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        if not is_empty(parameter):
            return None
        on_meta = torch.empty_like(parameter, device="meta", requires_grad=False).contiguous()
        return nn.Parameter(on_meta, requires_grad=parameter.requires_grad)

    def _parts(self) -> Iterator[nn.Module]:
        """What is whole together, inner parts first: a block; on a CPU a matrix, and what else is in the block."""
        for block in blocks_of(self.root):
            if self.device.type == "cpu":
                for layer in block.modules():
                    if any(one.ndim > 1 and one.is_meta for one in layer.parameters(recurse=False)):
                        yield layer
            yield block

    def _spread_tables(self, mesh: DeviceMesh) -> None:
        """Gives each process its rows of the tables; they stay on the device."""
        theirs = {one for table in self.tables for one in table.parameters(recurse=False)}
        made = {one: spread_rows(one, mesh) for one in theirs}
        _exchange_parameters(self.model, lambda _, parameter: made.get(parameter))
        for table in self.tables:
            spread_table(table, mesh)
        self._tables = set(made.values())


def _exchange_parameters(model: nn.Module, make: Callable[[str, nn.Parameter], nn.Parameter | None]) -> None:
    """Puts another parameter in the place of each for which one is made, in every module that shares it."""
    made = {old: new for name, old in model.named_parameters() if (new := make(name, old)) is not None}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter in made:
                module._parameters[name] = made[parameter]


def _fill(parameter: DTensor, local: Tensor) -> None:
    """Gives a parameter on the meta device its slice; it stays the object that FSDP and the optimizers know."""
    mesh, placements = parameter.device_mesh, parameter.placements
    shape, stride = parameter.shape, parameter.stride()
    filled = DTensor.from_local(local, mesh, placements, run_check=False, shape=shape, stride=stride)
    swap_tensors(parameter, nn.Parameter(filled, requires_grad=parameter.requires_grad))


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are, looked at some at a time: to compare makes copies."""
    return all(bool(torch.isfinite(part).all()) for part in tensor.flatten().split(NUMBERS_AT_ONCE))


def _sha256(tensor: Tensor) -> str:
    digest = hashlib.sha256()
    for piece in pieces(tensor):
        digest.update(piece.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
