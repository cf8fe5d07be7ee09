"""Values that a page sends, checked: a request that bypasses the page can hold anything that JSON can."""

import reprlib
from collections.abc import Sequence

from configs import InputError
from tokenizer_ext.pages.shortened import shorten

MOST_CHARACTERS = 20_000
"""Of a text that a model is asked."""
SHOWN_CHARACTERS = 80


def text(name: str, value: object, most: int) -> str:
    """A text of at most so many characters.

    Raises:
        InputError: it is none, is longer, or holds half of a character.
    """
    if not isinstance(value, str):
        raise InputError(f"{name}: found {shown(value)}, expected text")
    if len(value) > most:
        raise InputError(f"{name}: found {len(value):,} characters, expected at most {most:,}; shorten it")
    if any("\ud800" <= character <= "\udfff" for character in value):  # JSON can spell them, no tokenizer takes them
        raise InputError(f"{name}: holds half of a character (a lone surrogate), expected text")
    return value


def choice(name: str, value: object, among: Sequence[str]) -> str:
    """One of the names.

    Raises:
        InputError: it is none of them.
    """
    if not isinstance(value, str) or value not in among:
        raise InputError(f"{name}: found {shown(value)}, expected one of {shorten(', '.join(among), 300)}")
    return value


def number(name: str, value: object, lowest: float, highest: float) -> float:
    """A number in a range.

    >>> number("top-p", 1, 0, 1)
    1.0

    Raises:
        InputError: it is none, or lies outside.
    """
    # A comparison with NaN is false, so NaN is refused as well.
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise InputError(f"{name}: found {shown(value)}, expected a number from {lowest:g} to {highest:g}")
    return float(value)


def whole(name: str, value: object, lowest: int, highest: int) -> int:
    """A whole number in a range.

    >>> whole("seed", 7.0, 0, 10)
    7

    Raises:
        InputError: it is none, or lies outside.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest or value % 1:
        raise InputError(f"{name}: found {shown(value)}, expected a whole number from {lowest} to {highest}")
    return int(value)


def flag(name: str, value: object) -> bool:
    """Yes or no.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name}: found {shown(value)}, expected true or false")
    return value


def shown(value: object) -> str:
    """A value that may be anything, in a few words.

    >>> len(shown({"a" * 99: ["b" * 99] * 9})) <= SHOWN_CHARACTERS
    True
    """
    return shorten(reprlib.repr(value), SHOWN_CHARACTERS)
