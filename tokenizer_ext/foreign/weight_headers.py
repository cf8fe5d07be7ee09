"""The names, types, shapes and places of stored weights, from the headers of safetensors, before any weight is read.

A file is the length of its header in 8 bytes, little-endian, the header as JSON, and the numbers, to which
`data_offsets` of each tensor point: https://github.com/huggingface/safetensors/blob/v0.8.0/README.md#format.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import InputError
from tokenizer_ext.foreign.json_in_folder import GET_ANEW

MOST_BYTES = 100_000_000
"""Of a header, as in the safetensors library."""

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Of a number of the types that weights are trained in."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a header describes it."""

    type: str
    shape: tuple[int, ...]
    file: Path
    start: int
    """Where its numbers begin in the file, in bytes."""

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.shape)


def read_headers(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """The tensors in these files, by name.

    Raises:
        InputError: a header is damaged, or names a tensor twice.

    """
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in _read_header(file).items():
            if name in tensors:
                raise InputError(f"{file}: holds {name}, which another file holds as well: {GET_ANEW}")
            tensors[name] = tensor
    return tensors


def _read_header(file: Path) -> dict[str, StoredTensor]:
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            whole = file.stat().st_size
            if not 2 <= size <= min(MOST_BYTES, whole - 8):
                raise ValueError(f"a header of {size:,} bytes")
            fields = json.loads(stream.read(size), object_pairs_hook=_once_each)
        room = whole - 8 - size
        return {
            name: _tensor(name, tensor, file, 8 + size, room)
            for name, tensor in fields.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: no whole safetensors file ({str(error)[:100]}): {GET_ANEW}") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return fields


def _tensor(name: str, fields: Any, file: Path, header: int, room: int) -> StoredTensor:
    shape, place = fields.get("shape"), fields.get("data_offsets")
    if not _are_sizes(shape):
        raise ValueError(f"{name} has no shape")
    if not _are_sizes(place) or len(place) != 2 or place[0] > place[1]:
        raise ValueError(f"{name} has no place")
    if place[1] > room:
        raise ValueError(f"{name} ends at byte {header + place[1]:,} of {header + room:,}")
    stored = StoredTensor(str(fields.get("dtype")), tuple(shape), file, header + place[0])
    if stored.type in BYTES and place[1] - place[0] != stored.numbers * BYTES[stored.type]:
        raise ValueError(f"{name} of {shape} in {stored.type} has {place[1] - place[0]:,} bytes")
    return stored


def _are_sizes(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(side, int) and side >= 0 for side in found)
