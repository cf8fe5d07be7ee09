"""Matrices that are whole on a CPU only while they are multiplied: FSDP2 keeps more for the sake of a GPU's streams.

Nothing is sent while a CPU computes, so nothing is gained by what FSDP2 holds for that:

- the next matrix, asked for while this one is still multiplied backward;
- what came from the processes, after it was copied into the matrix, until the next one has come;
- the matrices of a block that is computed once more for its gradients, from the first of them until the block is done.

https://docs.pytorch.org/docs/2.13/distributed.fsdp.fully_shard.html: `set_custom_all_gather`,
`set_modules_to_backward_prefetch`, `reshard`.
"""

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup, Work
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.hooks import RemovableHandle

from scratch_models.sharded.vocabulary_parallel import gather_into


class ReleasedAllGather:
    """An all-gather into memory that `release` takes back, whoever refers to it still."""

    def __init__(self) -> None:
        self._gathered: weakref.ref[Tensor] | None = None

    def allocate(self, size: Any, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Where the slices of all processes go."""
        self.release()
        gathered = torch.empty(*size, dtype=dtype, device=device)
        self._gathered = weakref.ref(gathered)
        return gathered

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: ProcessGroup, async_op: bool = False
    ) -> Work | None:
        """Gathers the slices of all processes."""
        work: Work | None = gather_into(output_tensor, input_tensor, group=group, async_op=async_op)
        return work

    def release(self) -> None:
        """Gives the memory back; what was gathered last has been copied to its place."""
        gathered = None if self._gathered is None else self._gathered()
        if gathered is not None:
            gathered.untyped_storage().resize_(0)
        self._gathered = None


def hold_while_computing(part: nn.Module, gather: ReleasedAllGather, *, is_block: bool) -> list[RemovableHandle]:
    """Has a block, or a matrix of one, that `fully_shard` was applied to be whole while it computes, and not longer.

    Returns what takes that back, but for what `fully_shard` itself notes.
    """
    assert isinstance(part, FSDPModule)
    part.set_modules_to_backward_prefetch([part])
    part.set_custom_all_gather(gather)  # type: ignore[arg-type]  # it has what is asked for
    handles = [part.register_forward_pre_hook(lambda *_: gather.release())]
    if is_block:  # which is not brought together again for its gradients
        return handles
    was_spread = [True]

    def look(*_: object) -> None:
        was_spread[0] = all(isinstance(one, DTensor) for one in part.parameters(recurse=False))

    def spread(*_: object) -> None:
        if was_spread[0]:  # else its gradients are being computed, and it is needed still
            part.reshard()

    return [*handles, part.register_forward_pre_hook(look, prepend=True), part.register_forward_hook(spread)]
