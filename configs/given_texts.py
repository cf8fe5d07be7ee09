"""Texts that a user gives as settings: what no file can be named, and no file can hold."""

from collections.abc import Iterator, Mapping
from typing import Any

from configs.errors import InputError

PLACES = ("output_dir", "base", "tuned", "model", "checkpoint", "data", "corpus")
"""Settings that name a file or folder: an empty name would be the current folder."""


def check_texts(settings: Mapping[str, Any]) -> None:
    """Refuses a setting with a character that no file can be named or hold, and an empty name of a place.

    >>> check_texts({"output_dir": "runs/my run", "prompt": ""})

    Raises:
        InputError: there is one.

    """
    for field, value in settings.items():
        for text in _texts(value):
            if "\0" in text:
                raise InputError(f"{field}: {text!r} holds the character NUL, expected text without it")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{field}: {text!a} holds {text[error.start]!a}, half a character, expected text in UTF-8"
                ) from None
            if field in PLACES and not text.strip():
                raise InputError(f"{field}: found {text!r}, expected the name of a file or folder")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(name)
            yield from _texts(one)
