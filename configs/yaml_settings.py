"""The names, values and lines of a YAML file of settings."""

from typing import Any, NamedTuple

import jsonargparse
import yaml

from configs.errors import InputError, MissingInput

MOST_DEEP = 20
_EXPECTED = "expected lines of `field: value` in plain YAML"


class Setting(NamedTuple):
    """One `field: value` of a file; ``where`` is "file:line"."""

    name: str
    value: Any
    where: str


def read_settings(file: str) -> list[Setting]:
    """The settings in a YAML file, in their order; `1e-4` is a float.

    Raises:
        MissingInput: The file does not exist.
        InputError: The file is no text, no plain YAML, no mapping, empty, or names a field twice.
    """
    text = _read(file)
    try:
        _check_plain(text, file)
        root = yaml.compose(text, Loader=yaml.SafeLoader)  # knows the lines
        values = jsonargparse.get_loader("yaml")(text)  # reads numbers by YAML 1.2, as the rest of the world does
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{file}{line}: {getattr(error, 'problem', error)}, {_EXPECTED}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: holds {_found(root)}, {_EXPECTED}")
    lines = _lines(root, file)
    return [Setting(str(name), value, f"{file}:{lines.get(str(name), 1)}") for name, value in values.items()]


def _check_plain(text: str, file: str) -> None:
    """Refuses what settings never need and a reader may drown in: deep nesting, and values that stand for others."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEEP:
            raise InputError(f"{file}:{line}: is nested more than {MOST_DEEP} deep, {_EXPECTED}")
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{file}:{line}: holds *{event.anchor}, which stands for another value, {_EXPECTED}")


def _lines(mapping: yaml.MappingNode, file: str) -> dict[str, int]:
    """The line of every name of a mapping; a name that stands there twice is refused, in mappings inside it too."""
    lines: dict[str, int] = {}
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        if key.value in lines:
            raise InputError(f"{file}:{line}: {key.value} stands in line {lines[key.value]} as well, keep one of them")
        lines[key.value] = line
        if isinstance(value, yaml.MappingNode):
            _lines(value, file)
    return lines


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise MissingInput(f"{file}: no such file, expected a YAML file after --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file}: not readable as UTF-8 text ({error}), expected a YAML file after --config"
        ) from error


def _found(root: yaml.Node | None) -> str:
    kinds = {yaml.MappingNode: "a name without a value", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}
    return kinds.get(type(root), "no setting")
