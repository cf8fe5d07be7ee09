"""What may be said of a scaling of rotary positions, by the names of `rope_parameters` in transformers' configs."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from configs import InputError

OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (("factor",), ()),
    "yarn": (
        ("factor",),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), ()),
}
"""A kind of scaling -> what it needs beside its name, and what it may be given."""
BY_LENGTH = ("dynamic", "longrope")
"""Kinds that turn a position by an angle that depends on how long the row is."""


def check_rope_scaling(given: Mapping[str, Any]) -> None:
    """Refuses a scaling that is none, before any library is loaded.

    >>> check_rope_scaling({"rope_type": "yarn", "factor": 4})

    Raises:
        InputError: an unknown kind or name, one that is missing, or a factor that is no number above 1.

    """
    if not given:
        return
    kind, names = given.get("rope_type"), [name for name in given if name != "rope_type"]
    if kind in BY_LENGTH:
        raise InputError(
            f"rope_scaling.rope_type: found {kind}, by which positions depend on the length of a row, which packing "
            f"changes: expected one of {', '.join(OPTIONS)}"
        )
    if kind not in OPTIONS:
        raise InputError(f"rope_scaling.rope_type: found {kind!r}, expected one of {', '.join(OPTIONS)}")
    needed, optional = OPTIONS[kind]
    for name in names:
        if name not in needed + optional:
            nearest = difflib.get_close_matches(name, needed + optional, n=1)
            meant = f"did you mean {nearest[0]}?" if nearest else f"it has {', '.join(needed + optional)}"
            raise InputError(f"rope_scaling.{name}: {kind} has no such option, {meant}")
    if missing := [name for name in needed if name not in names]:
        raise InputError(f"rope_scaling.{missing[0]}: missing, {kind} needs {' and '.join(needed)}: pass it too")
    for name in names:
        _check_number(name, given[name])


def _check_number(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "truncate":
        if not isinstance(value, bool):
            raise InputError(f"rope_scaling.{name}: found {value!r}, expected true or false")
    elif not is_number or not 0 < value < math.inf:
        raise InputError(f"rope_scaling.{name}: found {value!r}, expected a finite number above 0")
    elif name == "factor" and value <= 1:
        raise InputError(f"rope_scaling.factor: found {value!r}, expected a number above 1, which positions grow by")
