"""Values as JSON has them: parsed with every fault named, and called by JSON's own words."""

import json

from configs import InputError

type_names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text"}
type_names |= {list: "a list", dict: "an object"}


def kind_of(value: object) -> str:
    """What a value is, in JSON's words.

    >>> kind_of(None), kind_of([])
    ('null', 'a list')
    """
    return type_names.get(type(value), type(value).__name__)


def read_text(value: object, place: str, field: str) -> str:
    """The value, which must be text that can be written as UTF-8.

    Raises:
        InputError: it is not; it begins with `place`.

    """
    if not isinstance(value, str):
        raise InputError(f"{place}: {field} is {kind_of(value)}, expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"\\u{ord(value[error.start]):04x}"
        raise InputError(f"{place}: {field} holds half a surrogate pair ({found}) at character {error.start}") from None
    return value


def parse_json(place: str, content: bytes) -> object:
    """The value of a JSON text in which no key stands twice.

    Raises:
        InputError: it is no UTF-8 or no JSON; it begins with `place`.

    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise InputError(f"{place}: byte 0x{byte:02x} at offset {error.start} is not UTF-8, save it as UTF-8") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if b"\n" in content else ""
        raise InputError(f"{place}: not JSON ({line}column {error.colno}: {error.msg})") from None
    except RecursionError:
        raise InputError(f"{place}: nested too deep to read, expected an object with text in it") from None
    except ValueError as error:  # a key twice, or a number with thousands of digits
        raise InputError(f"{place}: not usable JSON ({error})") from None


def without_nulls(value: object) -> object:
    """The value without null in the objects inside it: in a table every object has the columns of all the others.

    >>> without_nulls([{"role": "user", "tool_calls": None}])
    [{'role': 'user'}]
    """
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The object of `pairs`; json would keep the last of two values of one key and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return found
