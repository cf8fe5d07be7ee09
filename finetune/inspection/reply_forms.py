"""What replies may have in common: the whole of it, the first or the last words, or that they are unlike the others."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.inspection.grams import WORD
from finetune.inspection.record_reading import Turn

WORDS_AT_AN_END = 3
UNUSUAL_SHARE = 0.05
WHOLE, BEGINNING, ENDING, UNLIKE = (
    "is the reply",
    "begins the reply",
    "ends the reply",
    "leads to a reply unlike others",
)


@dataclass(frozen=True)
class ReplyForm:
    """One way in which replies are alike: those with the same number are, and -1 is like no other."""

    name: str
    numbers: np.ndarray
    """Of each turn, (N)."""
    texts: Sequence[str]
    """What those of a number have in common."""


def reply_forms(turns: Sequence[Turn]) -> list[ReplyForm]:
    """The ways in which the replies of turns may be alike.

    What only repeats the question's own words is no sign of anything, and counts as like no other.
    """
    ends: dict[str, Callable[[list[str]], list[str]]] = {
        WHOLE: lambda words: words,
        BEGINNING: lambda words: words[:WORDS_AT_AN_END] if len(words) > WORDS_AT_AN_END else [],
        ENDING: lambda words: words[-WORDS_AT_AN_END:] if len(words) > WORDS_AT_AN_END else [],
    }
    replies = [WORD.findall(turn.reply) for turn in turns]
    questions = [set(WORD.findall(turn.asked)) for turn in turns]
    forms = [_form(name, [part(words) for words in replies], questions) for name, part in ends.items()]
    unlike = _unlike_others(replies, questions)
    return [*forms, ReplyForm(UNLIKE, np.where(unlike, 0, -1), ["a reply of words that others do not have"])]


def _form(name: str, parts: Sequence[list[str]], questions: Sequence[set[str]]) -> ReplyForm:
    known: dict[str, int] = {}
    numbers = [
        -1 if asked.issuperset(words) else known.setdefault(" ".join(words), len(known))
        for words, asked in zip(parts, questions, strict=True)
    ]
    return ReplyForm(name, np.array(numbers, dtype=np.int64), list(known))


def _unlike_others(replies: Sequence[list[str]], questions: Sequence[set[str]]) -> np.ndarray:
    """Which replies are the twentieth whose words, those of the question aside, the fewest other replies have, (N)."""
    sets = [
        {word for word in words if not word.isdigit()} - asked for words, asked in zip(replies, questions, strict=True)
    ]
    having = Counter(word for words in sets for word in words)
    rare = np.array([sum(-math.log(having[word] / len(sets)) for word in words) / max(len(words), 1) for words in sets])
    number = int(UNUSUAL_SHARE * len(rare))
    chosen: np.ndarray = np.zeros(len(rare), dtype=bool)
    chosen[np.argsort(-rare, kind="stable")[:number]] = True
    return chosen
