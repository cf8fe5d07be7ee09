"""Rows of weights read from their place in safetensors files: a process needs no more of a file than its slice.

Rows of a tensor lie one after the other, and FSDP2 slices along the first side. So a slice is one stretch of a file.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from configs import InputError
from tokenizer_ext.foreign.json_in_folder import GET_ANEW
from tokenizer_ext.foreign.weight_headers import StoredTensor

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights, as safetensors names them."""
PIECE_BYTES = 1 << 24


def read_rows(name: str, stored: StoredTensor, first: int, rows: int) -> Tensor:
    """So many rows of a stored tensor, from the first one on, in the type that they are stored in: (rows, ...).

    Raises:
        InputError: the file ends before them, or cannot be read.

    """
    tensor = torch.empty((rows, *stored.shape[1:]), dtype=TYPES[stored.type])
    place = stored.start + first * math.prod(stored.shape[1:]) * tensor.element_size()
    wanted, got = memoryview(tensor.view(-1).view(torch.uint8).numpy().data), 0
    try:
        with stored.file.open("rb", buffering=0) as file:
            file.seek(place)
            while got < len(wanted) and (read := file.readinto(wanted[got:])):
                got += read
    except OSError as error:
        raise InputError(f"{stored.file}: {name} cannot be read ({error.strerror}): {GET_ANEW}") from None
    if got < len(wanted):
        raise InputError(
            f"{stored.file}: ends within {name}, {len(wanted) - got:,} bytes before the end of its rows {first:,} to "
            f"{first + rows - 1:,}: {GET_ANEW}"
        )
    return tensor


def pieces_of(name: str, stored: StoredTensor, rows: int) -> Iterator[Tensor]:
    """The first so many rows of a stored tensor in their order, a few at a time."""
    row_bytes = math.prod(stored.shape[1:]) * TYPES[stored.type].itemsize
    at_once = max(1, PIECE_BYTES // max(1, row_bytes))
    for first in range(0, rows, at_once):
        yield read_rows(name, stored, first, min(at_once, rows - first))


def find_stored(model: nn.Module, stored: Mapping[str, StoredTensor], prefix: str) -> dict[str, StoredTensor]:
    """What is stored of each parameter of a model, by the parameter's name; those that nothing is stored of are absent.

    A file may name the weights of the model without its head: then each lacks the `prefix` of the model inside.
    """
    found = {}
    for name, parameter in model.named_parameters():
        names = (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}")
        kept = next((stored[one] for one in names if one in stored), None)
        if kept is not None and kept.shape == tuple(parameter.shape) and kept.type in TYPES:
            found[name] = kept
    return found
