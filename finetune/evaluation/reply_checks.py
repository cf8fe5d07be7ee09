"""What a reply shows by itself: whether it is the known answer, and whether it repeats itself."""

import re
from collections import Counter
from fractions import Fraction

from finetune.conversations.formats import final_answer

REPEATED_WORDS, REPEATED_TIMES = 4, 3
NUMBER = re.compile(r"(-?)\$?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)")


def is_right(reply: str, expected: str) -> bool:
    """Whether a reply, or what follows its last `####`, is the expected answer; quotes and a full stop around it aside.

    Numbers are right by their value: GSM8K writes ``1,080`` for what another writes ``$1080.00``.

    >>> is_right("`None`.", "None"), is_right("48/2=24 so #### 24", "24"), is_right("Not None", "None")
    (True, True, False)
    """
    said, wanted = _bare(final_answer(reply) or reply), _bare(expected)
    return said == wanted or (_number(said) is not None and _number(said) == _number(wanted))


def repeats_itself(text: str) -> bool:
    """Whether four words in a row stand three times in a text.

    >>> repeats_itself("the sum of the " * 3), repeats_itself("the sum of all elements")
    (True, False)
    """
    words = text.split()
    runs = Counter(tuple(words[start : start + REPEATED_WORDS]) for start in range(len(words) - REPEATED_WORDS + 1))
    return max(runs.values(), default=0) >= REPEATED_TIMES


def _number(text: str) -> Fraction | None:
    found = NUMBER.fullmatch(text)
    return Fraction(found[1] + found[2].replace(",", "")) if found else None


def _bare(text: str) -> str:
    stripped = text.strip()
    # An answer of quotes alone (`''`, an empty default) is not the empty reply.
    return stripped.strip("`'\"").rstrip(".").strip("`'\"") or stripped
