"""Sums and differences of words, as `king - man + woman`, read from text; no library is loaded for it."""

import re

from configs import InputError

_EXPECTED = "expected words with ' + ' or ' - ' between them, as 'king - man + woman'"


def direction_terms(text: str) -> list[tuple[int, str]]:
    """The words of a direction, each with its sign.

    Raises:
        InputError: it has fewer than two words, or a sign without one.

    >>> direction_terms("king - man + woman")
    [(1, 'king'), (-1, 'man'), (1, 'woman')]
    """
    first, *others = re.split(r"\s+([+-])(?=\s|$)\s*", text.strip())
    words = [first, *others[1::2]]
    signs = [1, *(1 if sign == "+" else -1 for sign in others[::2])]
    if len(words) < 2 or any(len(word.split()) != 1 or word in ("+", "-") for word in words):
        raise InputError(f"direction is {text!r}, {_EXPECTED}")
    return list(zip(signs, words, strict=True))
