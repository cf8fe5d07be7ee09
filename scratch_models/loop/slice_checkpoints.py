"""The checkpoints of a run whose every weight trains and which no process holds whole: each saves and reads its slices.

What is written goes on in another number of processes, or whole in one; what was written whole goes on here too.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from configs import InputError
from scratch_models.checkpoints.checkpoint import (
    KEPT,
    Checkpoint,
    checkpoint_folder,
    find_newest_checkpoint,
    find_not_finite,
    read_state,
)
from scratch_models.checkpoints.slice_files import (
    by_stem,
    flat_names,
    holds_slices,
    read_slices,
    sizes_in,
    write_slices,
)
from scratch_models.launch.waiting import first_said, wait_for_all
from scratch_models.loop.optimizers import named_state, put_state
from scratch_models.loop.sharding import computes_in_step, spread_like

Tensors = dict[str, dict[str, Tensor]]
"""By the stem of the file that a whole checkpoint has them in, and by name."""
Told = TypeVar("Told")


def saves_slices(loss_model: nn.Module) -> bool:
    """Whether the checkpoints of a model are slices: it was never whole in any process, and all of it trains."""
    return computes_in_step(loss_model) and all(weight.requires_grad for weight in loss_model.parameters())


def refuse_folder_apart(folder: Path, accelerator: Accelerator) -> None:
    """Refuses a folder that the processes do not share, before they train for an hour; all of them must call it.

    Raises:
        InputError: some process does not see it.

    """
    blind = [rank for rank, sees in enumerate(gather_object([folder.is_dir()])) if not sees]
    if blind:
        raise InputError(
            f"output_dir {folder}: process {blind[0]} does not see it, and each writes its slices of a checkpoint "
            "there: choose a folder on a disk that all machines share"
        )


def held_state(loss_model: nn.Module, optimizers: Sequence[Optimizer]) -> Tensors:
    """What trains, and the state of what trains it, as the processes hold it."""
    trained = {name: weight.detach() for name, weight in loss_model.named_parameters() if weight.requires_grad}
    states = {f"optimizer_{number}": named_state(optimizer) for number, optimizer in enumerate(optimizers)}
    return {"trained": trained, **states}


def find_not_finite_here(tensors: Mapping[str, Mapping[str, Tensor]]) -> str | None:
    """As `find_not_finite`, of what this process holds."""
    return find_not_finite({stem: {name: _here(one) for name, one in named.items()} for stem, named in tensors.items()})


def save_slices(checkpoint: Checkpoint, folder: Path, accelerator: Accelerator, *, kept: int = KEPT) -> None:
    """As `save_checkpoint`, of slices; every process must call it, and where one fails all do.

    Raises:
        InputError: the disk does not take it; the checkpoints before it stay as they are.

    """
    flat = flat_names(checkpoint.tensors)
    needed = sum(tensor.nbytes for tensor in flat.values())
    with ExitStack() as ends:

        def begin() -> Path:
            named = checkpoint_folder(checkpoint.step, folder, checkpoint.state, needed=needed, kept=kept)
            return ends.enter_context(named)

        write_slices(flat, _told_by_main(begin, accelerator))


def find_slices(folder: Path, accelerator: Accelerator) -> tuple[Path, Checkpoint, list[str]]:
    """The newest checkpoint whose hashes are right, as the main process finds it; every process must call it.

    Returns its folder, what it holds, without numbers, and why newer ones were passed over.

    Raises:
        InputError: there is no whole checkpoint.

    """
    path, passed_over = _told_by_main(lambda: find_newest_checkpoint(folder), accelerator)
    state = read_state(path)
    return path, Checkpoint(step=state.pop("step"), tensors=_described(path), state=state), passed_over


@torch.no_grad()
def load_slices(
    loss_model: nn.Module, optimizers: Sequence[Optimizer], path: Path, described: Checkpoint, accelerator: Accelerator
) -> None:
    """Puts back this process's slices of what a checkpoint holds; every process must call it.

    Raises:
        InputError: it cannot be read, or holds numbers that are not finite.

    """
    places = held_state(loss_model, [])
    for number, optimizer in enumerate(optimizers):
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        stem = f"optimizer_{number}"
        places[stem] = {
            name: _place(weights[int(name.partition(".")[0])], like) for name, like in described.tensors[stem].items()
        }
    if holds_slices(file.name for file in path.iterdir()):
        read_slices(flat_names(places), path)
    else:
        _read_whole_files(places, path)
    if problem := first_said(find_not_finite_here(places), accelerator):
        raise InputError(f"{path}: {problem}: it was saved so: remove that folder to go on from the one before it")
    for number, optimizer in enumerate(optimizers):
        put_state(optimizer, places[f"optimizer_{number}"])


def _read_whole_files(places: Tensors, path: Path) -> None:
    """Fills tensors from files that hold them whole, one after the other."""
    for stem, named in places.items():
        with safe_open(path / f"{stem}.safetensors", "pt") as file:
            for name, tensor in named.items():
                tensor.copy_(spread_like(tensor, file.get_tensor(name)))


def _described(path: Path) -> Tensors:
    """The tensors of a checkpoint on the meta device: shapes and types."""
    names = [file.name for file in path.iterdir()]
    if holds_slices(names):
        return by_stem({name: torch.empty(s, dtype=t, device="meta") for name, (s, t) in sizes_in(path).items()})
    found: Tensors = {}
    for name in names:
        if name.endswith(".safetensors"):
            with safe_open(path / name, "pt") as file:
                shapes = {one: file.get_slice(one).get_shape() for one in file.keys()}  # noqa: SIM118 - no mapping
            found[Path(name).stem] = {one: torch.empty(shape, device="meta") for one, shape in shapes.items()}
    return found


def _place(weight: Tensor, like: Tensor) -> Tensor:
    """Room for a state of a weight: sliced as the weight is, where it has its shape."""
    if like.shape == weight.shape:
        return torch.zeros_like(weight, requires_grad=False)
    return torch.zeros(like.shape, dtype=torch.float32)


def _here(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _told_by_main(find: Callable[[], Told], accelerator: Accelerator) -> Told:
    """What the main process finds, or fails with, in every process; the others wait for as long as it takes."""
    told: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            told[0] = find()
        except InputError as error:
            told[1] = str(error)
    wait_for_all(accelerator)
    found, problem = broadcast_object_list(told) if accelerator.num_processes > 1 else told
    if problem is not None:
        raise InputError(problem)
    result: Told = found
    return result
