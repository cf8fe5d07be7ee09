"""Frozen dataclasses as JSON files, read back with every type checked: such a file may come from anywhere."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from configs import InputError
from configs.whole_folder import write_whole

T = TypeVar("T")

_UNKNOWN = "unexpected_keyword_argument"
EXPECTED = {
    "int_type": "int",
    "float_type": "float",
    "bool_type": "bool",
    "string_type": "str",
    "tuple_type": "a list",
    "dataclass_type": "fields and values",
}
"""What a field should hold, by the library's name for the mistake; for any other there is its own sentence."""


def write_record(record: Any, path: Path, indent: int | None = 2) -> None:
    """Writes the fields of a dataclass, those of nested ones too, as JSON: a line a value, or one line in all."""
    write_whole(path, json.dumps(dataclasses.asdict(record), indent=indent) + "\n")


def read_record(kind: type[T], path: Path, expected: str) -> T:
    """The dataclass in a JSON file; fields that it lacks take their defaults.

    Args:
        kind: A dataclass; no type in it is stretched to take a value, but a whole number may stand for a float.
        path: The file.
        expected: What the file should be, for the message.

    Raises:
        InputError: the file is not JSON, a field is unknown or has no value, or a value is of another type.

    """
    # With "or null", for a dataclass alone takes no configuration from here.
    or_null: Any = kind | None
    adapter: TypeAdapter[T | None] = TypeAdapter(or_null, config=ConfigDict(extra="forbid", strict=True))
    try:
        record = adapter.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = _describe(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{path}: cannot be read ({reason[:160]}), expected {expected}") from None
    if record is None:
        raise InputError(f"{path}: cannot be read (the file is null, expected fields and values), expected {expected}")
    return record


def _describe(error: ValidationError) -> str:
    """In one line the field, what was found and what was expected."""
    # An unknown field first: where a name is misspelt, the right one is missing too.
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != _UNKNOWN)
    names = [_name(problem["loc"]) for problem in problems if problem["type"].startswith("missing")]
    problem = problems[0]
    if problem["type"] == "json_invalid":
        return problem["msg"]
    if problem["type"] == _UNKNOWN:
        return f"{_name(problem['loc'])} is no field of it"
    if problem["type"].startswith("missing"):
        return f"missing {len(names)} required fields: {', '.join(names)}"
    found = json.dumps(problem["input"], default=str)[:60]
    return f"{_name(problem['loc'])} is {found}, expected {EXPECTED.get(problem['type'], problem['msg'])}"


def _name(place: tuple[int | str, ...]) -> str:
    """The field at a place in the file, without the items of a list in it.

    >>> _name(("base", "tokens")), _name(("tokens", 0, "str")), _name(())
    ('base.tokens', 'tokens', 'the file')
    """
    return ".".join(map(str, itertools.takewhile(lambda part: isinstance(part, str), place))) or "the file"
