"""Tables of tokens that no process holds whole, not even while they are read: each multiplies its own rows for all.

Processes exchange what they ask of a table and what it answers, and never its rows: the ids of a micro-batch instead of
an embedding, hidden states instead of a head. Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053, section 3. All
processes that share a table must read it together, each for tokens of its own.

Shapes: N tokens of this process, A tokens of all that share the table, R rows of this process, V rows of all, D width.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard

NUMBERS_AT_ONCE = 2**20
"""Of a table that are cast: in single precision a head would be the largest thing in memory, and these stay in the
cache until they are multiplied."""

gather_into = getattr(distributed, "all_gather_single", distributed.all_gather_into_tensor)
"""What all processes hold, into one tensor: torch 2.13 gave it another name, and warns of the old one."""


class RowsHere:
    """Which rows of a table this process holds, and those that hold the others."""

    def __init__(self, rows: int, mesh: DeviceMesh) -> None:
        self.group = mesh.get_group(mesh.ndim - 1)
        self.replicas = mesh.get_group(0) if mesh.ndim > 1 else None
        """Who holds these very rows, where other groups of processes share the table among them too."""
        self.rank, self.sharers, self.world = self.group.rank(), self.group.size(), mesh.size()
        self.each = math.ceil(rows / self.sharers)  # as `torch.chunk` cuts them
        self.first = min(self.rank * self.each, rows)
        self.number = min(self.each, rows - self.first)

    def everyones(self, mine: Tensor) -> list[Tensor]:
        """What each process has: (N, ...) here -> as many of those as processes, N of each its own."""
        sizes = mine.new_empty(self.sharers, dtype=torch.long)
        gather_into(sizes, sizes.new_tensor([len(mine)]), self.group)
        most = max(1, int(sizes.max()))
        padded = mine.new_zeros((most, *mine.shape[1:]))
        padded[: len(mine)] = mine
        parts = mine.new_empty((self.sharers * most, *mine.shape[1:]))
        gather_into(parts, padded, self.group)
        return [part[:size] for part, size in zip(parts.split(most), sizes.tolist(), strict=True)]

    def held(self, ids: Tensor) -> Tensor:
        """Which of some ids have their row here."""
        return (ids >= self.first) & (ids < self.first + self.number)

    def mean_gradient(self, of_rows: Tensor) -> Tensor:
        """Of the rows here, summed over those who share the table: the mean over all processes, as FSDP2 gives it."""
        if self.replicas is not None:
            distributed.all_reduce(of_rows, group=self.replicas)
        return of_rows.div_(self.world)


class _Rows(torch.autograd.Function):
    """The rows of some ids that all processes ask for together: (R, D) here, (A,) -> (A, D), the same everywhere."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, wanted: Tensor, here: RowsHere, padding: int | None) -> Tensor:
        inside = here.held(wanted)
        found = rows.new_zeros(len(wanted), rows.shape[1])
        found[inside] = rows[wanted[inside] - here.first]
        # One process has a row and all others zeros: as bytes they add up to it in any type.
        distributed.all_reduce(found.view(torch.uint8), group=here.group)
        ctx.save_for_backward(wanted, inside)
        ctx.here, ctx.padding, ctx.shape = here, padding, rows.shape
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_found: Tensor) -> Any:
        (wanted, inside), here = ctx.saved_tensors, ctx.here
        of_found = of_found.clone()
        if ctx.padding is not None:
            of_found[wanted == ctx.padding] = 0
        distributed.all_reduce(of_found, group=here.group)
        of_rows = of_found.new_zeros(ctx.shape)
        of_rows[wanted[inside] - here.first] = of_found[inside]
        return here.mean_gradient(of_rows), None, None, None


class VocabularyParallelEmbedding(nn.Embedding):
    """A lookup whose rows are spread: what its class before makes of them is made of those alone that are asked for."""

    here: RowsHere
    alone: tuple[nn.Embedding]
    """The lookup as it was, with a table that changes; in a tuple, for it is no module of the model."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Rows of the ids: (B, T) -> (B, T, D)."""
        flat, here = input_ids.flatten(), self.here
        wanted = torch.cat(here.everyones(flat)).unique()  # at most A, the same everywhere
        found = _Rows.apply(local_rows(self.weight), wanted, here, self.padding_idx)
        (alone,) = self.alone
        alone._parameters["weight"] = found  # for this call alone
        try:
            return alone(torch.searchsorted(wanted, flat).view_as(input_ids))
        finally:
            alone._parameters["weight"] = None


class VocabularyParallelHead(nn.Linear):
    """A head whose rows are spread. The logits of all tokens are for replies; losses do without them."""

    here: RowsHere

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits: (..., D) -> (..., V)."""
        device, here = hidden.device.type, self.here
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        everyones = here.everyones(hidden.reshape(-1, hidden.shape[-1]).to(dtype))
        before = sum(len(one) for one in everyones[: here.rank])
        of_all = torch.cat(everyones)  # (A, D)
        logits = of_all.new_zeros(len(of_all), here.each)
        with torch.autocast(device, enabled=False):
            for rows, weight, bias in self.parts(dtype):
                product = of_all @ weight.T
                logits[:, rows] = product if bias is None else product + bias.to(dtype)
        whole = logits.new_empty(here.sharers * len(of_all), here.each)
        gather_into(whole, logits, here.group)
        mine = whole.view(here.sharers, len(of_all), here.each)[:, before : before + len(everyones[here.rank])]
        number = self.weight.shape[0]
        return mine.transpose(0, 1).flatten(1)[:, :number].reshape((*hidden.shape[:-1], number))

    def parts(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Rows of this process in a type, some at a time: which, their weight (some of R, D), and their bias."""
        weight = local_rows(self.weight)
        bias = None if self.bias is None else local_rows(self.bias)
        at_once = max(1, NUMBERS_AT_ONCE // weight.shape[1])
        for start in range(0, len(weight), at_once):
            rows = slice(start, min(start + at_once, len(weight)))
            yield rows, weight[rows].to(dtype), None if bias is None else bias[rows]


def spread_table(table: nn.Module, mesh: DeviceMesh) -> None:
    """Has a table of tokens be read in parts, in place; its parameters are on the meta device, and are spread already.

    Raises:
        TypeError: it is neither an embedding nor a linear layer.

    """
    if isinstance(table, nn.Embedding):
        alone = copy.copy(table)
        alone._parameters, alone.padding_idx = {}, None  # an id of the table, which `_Rows` heeds
        vars(table)["alone"] = (alone,)
        table.__class__ = VocabularyParallelEmbedding
    elif isinstance(table, nn.Linear):
        table.__class__ = VocabularyParallelHead
    else:
        raise TypeError(f"a {type(table).__name__} is no table of tokens")
    vars(table)["here"] = RowsHere(len(table.weight), mesh)  # type: ignore[arg-type]


def take_back_table(table: nn.Module) -> None:
    """Takes what `spread_table` noted out of a table; who sharded it gives it its class and parameters back."""
    for name in ("here", "alone"):
        vars(table).pop(name, None)


def spread_rows(parameter: nn.Parameter, mesh: DeviceMesh) -> nn.Parameter:
    """A parameter without numbers, of which each process is to hold its rows: (V, ...) -> (R, ...) here."""
    here = RowsHere(len(parameter), mesh)
    local = torch.empty((here.number, *parameter.shape[1:]), dtype=parameter.dtype, device="meta")
    placements = [*[Replicate()] * (mesh.ndim - 1), Shard(0)]
    shape, stride = parameter.shape, torch.empty_like(parameter, device="meta").contiguous().stride()
    spread = DTensor.from_local(local, mesh, placements, run_check=False, shape=shape, stride=stride)
    return nn.Parameter(spread, requires_grad=parameter.requires_grad)


def local_rows(parameter: Tensor) -> Tensor:
    """What of a parameter this process holds."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter
