"""What a reply shows by itself: whether it is the known answer, and whether it repeats itself."""

from collections import Counter

from finetune.conversations import final_answer

REPEATED_WORDS, REPEATED_TIMES = 4, 3


def is_right(reply: str, expected: str) -> bool:
    """Whether a reply, or what follows its last `####`, is the expected answer; quotes and a full stop around it aside.

    >>> is_right("`None`.", "None"), is_right("48/2=24 so #### 24", "24"), is_right("Not None", "None")
    (True, True, False)
    """
    return _bare(final_answer(reply) or reply) == _bare(expected)


def repeats_itself(text: str) -> bool:
    """Whether four words in a row stand three times in a text.

    >>> repeats_itself("the sum of the " * 3), repeats_itself("the sum of all elements")
    (True, False)
    """
    words = text.split()
    runs = Counter(tuple(words[start : start + REPEATED_WORDS]) for start in range(len(words) - REPEATED_WORDS + 1))
    return max(runs.values(), default=0) >= REPEATED_TIMES


def _bare(text: str) -> str:
    stripped = text.strip()
    # An answer of quotes alone (`''`, an empty default) is not the empty reply.
    return stripped.strip("`'\"").rstrip(".").strip("`'\"") or stripped
