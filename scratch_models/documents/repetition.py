"""How much of a document repeats itself.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", table A1, whose
thresholds these are. A share of characters is of the document's own, spaces included; words are what stands between
spaces.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence

MOST_REPEATED_LINES = 0.30
MOST_CHARACTERS_IN_REPEATED_LINES = 0.20
MOST_IN_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
"""Of characters, in the most frequent run of so many words."""
MOST_IN_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""Of characters, in runs of so many words that stood there before."""
LINES, PARAGRAPHS = re.compile(r"\n+"), re.compile(r"\n{2,}")


def repeats_little(document: str) -> bool:
    r"""Whether lines, paragraphs and runs of words that stand there again are below every threshold of the table.

    >>> repeats_little("Each line of this\nis another one."), repeats_little("the same line\n" * 9)
    (True, False)
    >>> repeats_little("to be or not to be " * 9)
    False
    """
    text = document.strip()
    if any(_repeats(separator.split(text), text) for separator in (LINES, PARAGRAPHS)):
        return False
    words = text.split()
    if any(characters_in_top(words, length) > most * len(text) for length, most in MOST_IN_TOP.items()):
        return False
    return all(characters_in_repeated(words, length) <= most * len(text) for length, most in MOST_IN_REPEATED.items())


def characters_in_top(words: Sequence[str], length: int) -> int:
    """Characters of the most frequent run of so many words, spaces included, each time that it stands there.

    A run that stands there once repeats nothing.

    >>> characters_in_top("a b c a b d".split(), 2)
    6
    """
    counts = Counter(zip(*(words[start:] for start in range(length)), strict=False))
    run, count = counts.most_common(1)[0] if counts else ((), 0)
    return len(" ".join(run)) * count if count > 1 else 0


def characters_in_repeated(words: Sequence[str], length: int) -> int:
    """Characters of words in runs of so many that stood there before, each word once.

    >>> characters_in_repeated("aa b cc aa b cc x".split(), 3)
    5
    """
    known: set[Hashable] = set()
    found = place = 0
    while place + length <= len(words):
        run = tuple(words[place : place + length])
        if run in known:
            found += sum(map(len, run))
            place += length
        else:
            known.add(run)
            place += 1
    return found


def _repeats(parts: Sequence[str], text: str) -> bool:
    distinct = set(parts)
    repeated = len(parts) - len(distinct)
    characters = sum(map(len, parts)) - sum(map(len, distinct))
    return repeated > MOST_REPEATED_LINES * len(parts) or characters > MOST_CHARACTERS_IN_REPEATED_LINES * len(text)
