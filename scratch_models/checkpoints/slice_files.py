"""Tensors that each process writes its slices of, and that any number of processes reads again, each its own.

The files are torch's distributed checkpoint in the safetensors format of Hugging Face: `shard-<process>-model-<number>-
of-<numbers>.safetensors`, where the header of each says at which place of its tensor a slice begins. So nothing is
gathered to be written, and whoever reads needs no more of a tensor than it holds of it.
https://docs.pytorch.org/docs/2.13/distributed.checkpoint.html#torch.distributed.checkpoint.HuggingFaceStorageWriter

A tensor's name in the files is `<stem>.<name>`, the stem being that of the file which a whole checkpoint has it in.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from configs import InputError

SLICES = "shard-"
"""What the name of a file begins with that holds slices."""
BYTES_OF_FILE = 2 * 10**9
"""Of whole tensors of which a file has slices: one file at a time is put together in memory before it is written."""


def holds_slices(names: Iterable[str]) -> bool:
    """Whether files of these names hold slices."""
    return any(name.startswith(SLICES) for name in names)


def write_slices(tensors: Mapping[str, Tensor], folder: Path, *, whole_too: bool = False) -> None:
    """Writes what this process holds of some tensors; all processes must call it, with a folder that they share.

    Args:
        tensors: By name, the same in every process: DTensors, of which each has a slice, or what all have.
        folder: Where the files go; it is there.
        whole_too: Whether the main process puts them together as files that any library opens, with an index of them,
            once all have written; the slices are in `sharded/` then.

    Raises:
        InputError: some process could not write.

    """
    writer = dcp.HuggingFaceStorageWriter(
        str(folder), _file_of(tensors), save_distributed=True, enable_consolidation=whole_too
    )
    with _said_in_one_line(folder, "write"):
        dcp.save(dict(tensors), storage_writer=writer)


def read_slices(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Fills tensors, in place, with what was written; all processes must call it that share one of them.

    Args:
        tensors: By name, as `write_slices` had them; DTensors may be sliced in any other way, or be whole.
        folder: Where the files are.

    Raises:
        InputError: one of the tensors is not there, or has another shape.

    """
    with _said_in_one_line(folder, "read"):
        dcp.load(dict(tensors), storage_reader=dcp.HuggingFaceStorageReader(str(folder)))


def sizes_in(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of each tensor of which slices were written, whole.

    Raises:
        InputError: the headers are damaged, or speak of larger tensors than the files hold.

    """
    try:
        described = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: holds no slices that can be read ({error}), expected what a run wrote") from None
    found = {name: (one.size, one.properties.dtype) for name, one in described.items()}  # type: ignore[union-attr]
    needed = sum(size.numel() * dtype.itemsize for size, dtype in found.values())
    if needed > (held := sum(path.stat().st_size for path in folder.glob("*.safetensors"))):
        raise InputError(
            f"{folder}: speaks of tensors of {needed:,} bytes, and its files hold {held:,}: it was changed"
        )
    return found


def read_whole(folder: Path) -> dict[str, dict[str, Tensor]]:
    """All tensors of which slices were written, whole: stem -> name -> tensor. No other process takes part."""
    flat = {name: torch.empty(size, dtype=dtype) for name, (size, dtype) in sizes_in(folder).items()}
    with _said_in_one_line(folder, "read"):
        dcp.load(dict(flat), storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=True)
    return by_stem(flat)


def by_stem(flat: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the stem and the rest of their name.

    >>> one, two = torch.ones(1), torch.ones(2)
    >>> by_stem({"trained.h.0.weight": one, "optimizer_0.3.exp_avg": two}).keys()
    dict_keys(['trained', 'optimizer_0'])
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        stem, _, rest = name.partition(".")
        found.setdefault(stem, {})[rest] = tensor
    return found


def flat_names(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The other way: `<stem>.<name>` -> tensor."""
    return {f"{stem}.{name}": tensor for stem, named in tensors.items() for name, tensor in named.items()}


def _file_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Into which file each goes, counted from 1."""
    number, size, found = 1, 0, {}
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > BYTES_OF_FILE:
            number, size = number + 1, 0
        found[name], size = number, size + tensor.nbytes
    return found


@contextmanager
def _said_in_one_line(folder: Path, what: str) -> Iterator[None]:
    """What went wrong in some process, as all of them say it; torch's own lines about the format stay out."""
    logger = logging.getLogger("torch.distributed.checkpoint")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.distributed\.checkpoint")
            yield
    except CheckpointException as failure:
        rank, (error, _) = min(failure.failures.items(), key=lambda one: one[0])
        raise InputError(f"{folder}: process {rank} could not {what} its slices ({error})") from error
    finally:
        logger.setLevel(level)
