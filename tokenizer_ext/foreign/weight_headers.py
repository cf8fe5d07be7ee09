"""The names, types and shapes of stored weights, from the headers of safetensors, before any weight is read."""

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


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a header describes it."""

    type: str
    shape: tuple[int, ...]

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
            if not 2 <= size <= min(MOST_BYTES, file.stat().st_size - 8):
                raise ValueError(f"a header of {size:,} bytes")
            fields = json.loads(stream.read(size), object_pairs_hook=_once_each)
        return {name: _tensor(name, tensor) for name, tensor in fields.items() if name != "__metadata__"}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: no whole safetensors file ({str(error)[:100]}): {GET_ANEW}") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return fields


def _tensor(name: str, fields: Any) -> StoredTensor:
    shape = fields.get("shape")
    if not isinstance(shape, list) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"{name} has no shape")
    return StoredTensor(str(fields.get("dtype")), tuple(shape))
