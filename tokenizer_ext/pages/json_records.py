"""Frozen dataclasses as JSON files, read back with every type checked: such a file may come from anywhere."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from configs import InputError
from configs.errors import on_one_line

T = TypeVar("T")


def write_record(record: Any, path: Path, indent: int | None = 2) -> None:
    """Writes the fields of a dataclass, those of nested ones too, as JSON: a line a value, or one line in all."""
    path.write_text(json.dumps(dataclasses.asdict(record), indent=indent) + "\n", encoding="utf-8")


def read_record(kind: type[T], path: Path, expected: str) -> T:
    """The dataclass in a JSON file; fields that it lacks take their defaults.

    Args:
        kind: A dataclass with fields of str, int, float, bool, lists of lists of them, None, and such dataclasses.
        path: The file.
        expected: What the file should be, for the message.

    Raises:
        InputError: the file is not JSON, a field is unknown or has no value, or a value is of another type.

    """
    try:
        return _read(kind, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = on_one_line(error, 160)
        raise InputError(f"{path}: cannot be read ({reason}), expected {expected}") from None


def _read(kind: Any, value: Any, name: str = "the file") -> Any:
    """The value as one of the type `kind`.

    >>> _read(tuple[int, ...] | None, [1, 2])
    (1, 2)
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_one_of(inner, value, name)
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, name)
    if origin is tuple and isinstance(value, list):
        kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(kinds) == len(value):
            return tuple(_read(kind, one, name) for kind, one in zip(kinds, value, strict=True))
    # In Python a bool is an int, and JSON writes 1.0 as it likes.
    elif type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise TypeError(f"{name} is {json.dumps(value)[:60]}, expected {getattr(kind, '__name__', kind)}")


def _read_one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds[:-1]:
        try:
            return _read(kind, value, name)
        except TypeError:
            continue
    return _read(kinds[-1], value, name)


def _read_fields(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {json.dumps(value)[:60]}, expected fields and values")
    kinds = typing.get_type_hints(kind)
    if unknown := sorted(set(value) - set(kinds)):
        raise TypeError(f"{unknown[0]} is no field of it")
    return kind(**{field: _read(kinds[field], one, field) for field, one in value.items()})
