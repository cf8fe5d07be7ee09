"""The fields of a settings class as a form shows them: what each takes, by default, and its own words about it."""

import dataclasses
import types
import typing
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from docstring_parser import parse_from_object

from configs import InputError

Takes = Literal["flag", "choice", "number", "other"]


@dataclass(frozen=True)
class SettingField:
    """One setting."""

    name: str
    takes: Takes
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    """Of a choice."""

    def read(self, given: object) -> Any:
        """The value that a form's entry stands for; an empty one is the default.

        >>> SettingField("epochs", "number", None, "").read("3"), SettingField("epochs", "number", None, "").read("")
        (3, None)

        Raises:
            InputError: it is no value of this kind.
        """
        if given is None or given == "":
            return self.default
        if self.takes == "flag" and isinstance(given, bool):
            return given
        if self.takes == "choice" and given in self.choices:
            return given
        if self.takes == "number" and isinstance(given, str) and len(given) <= 40:
            with suppress(ValueError):
                return int(given)
            with suppress(ValueError):
                return float(given)
        expected = {"flag": "true or false", "choice": f"one of {', '.join(self.choices)}"}.get(self.takes, "a number")
        raise InputError(f"{self.name}: found {str(given)[:80]!r}, expected {expected}")


def setting_fields(schema: type) -> list[SettingField]:
    """The settings of a class, in the order in which they stand there, those of its bases first."""
    words: dict[str, str] = {}
    for one in reversed(schema.__mro__[:-1]):
        words |= {found.arg_name: found.description or "" for found in parse_from_object(one).params}
    hints, found = typing.get_type_hints(schema), []
    for field in dataclasses.fields(schema):
        takes, choices = _takes(hints[field.name])
        default = field.default if field.default is not dataclasses.MISSING else None
        found.append(SettingField(field.name, takes, default, " ".join(words.get(field.name, "").split()), choices))
    return found


def _takes(hint: Any) -> tuple[Takes, tuple[str, ...]]:
    """What a type takes, and of a choice among what."""
    kinds = [one for one in _members(hint) if one is not types.NoneType]
    if all(typing.get_origin(one) is Literal for one in kinds):
        return "choice", tuple(str(value) for one in kinds for value in typing.get_args(one))
    if kinds == [bool] and types.NoneType not in _members(hint):
        return "flag", ()
    return ("number" if set(kinds) <= {int, float} else "other"), ()


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)
