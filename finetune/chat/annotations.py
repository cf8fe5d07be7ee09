"""The annotations that a text holds: how many are right, and which of them the calculator cannot give."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from configs import InputError
from finetune.chat.calculator import ANNOTATION, ARITHMETIC, NO_VALUE, evaluate, value_of
from finetune.conversations.formats import Conversation

# Wider than the calculator's own: also what looks like an annotation and holds no arithmetic.
MARKED = re.compile(r"<<(?P<inside>[^<>=\n]*=[^<>\n]*)>>")
UNFINISHED = re.compile(rf"<<{ARITHMETIC}(?:=[^<>\n]*+>?)?\Z")
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


@dataclass(frozen=True, kw_only=True)
class AnnotationCounts:
    """The annotations of some texts."""

    right: int
    """Whose result is the value, as exact as the calculator writes it."""
    wrong: int
    """Whose result is another, or is none."""
    without_value: int
    """That the calculator completed with `error`: a division by zero, a bracket left open."""
    unfinished: int
    """Cut off at the end of a text."""


def count_annotations(texts: Iterable[str]) -> AnnotationCounts:
    """How the annotations of the texts add up.

    >>> count_annotations(["48/2 = <<48/2=24>>24, <<1+1=3>>3, <<1/0=error>>", "<<2*3="])
    AnnotationCounts(right=1, wrong=1, without_value=1, unfinished=1)
    """
    counts = dict.fromkeys(("right", "wrong", "without_value", "unfinished"), 0)
    for text in texts:
        for found in ANNOTATION.finditer(text):
            counts[_kind(found["expression"], found["result"])] += 1
        counts["unfinished"] += UNFINISHED.search(text) is not None
    return AnnotationCounts(**counts)


def refuse_unusable_annotations(conversations: Iterable[Conversation]) -> None:
    """Makes sure that the calculator can give every result that an assistant's message holds.

    A result may be rounded: ``10/3=3.33`` is right to its last place.

    Raises:
        InputError: it cannot; names the first and counts the others.
    """
    found = [(conversation.source, inside) for conversation in conversations for inside in _unusable(conversation)]
    if not found:
        return
    source, (inside, reason) = found[0]
    others = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
    raise InputError(
        f"{source}: <<{inside[:60]}>> {reason}, expected arithmetic and its result as in <<48/2=24>>: "
        f"correct it, or train without --calculator{others}"
    )


def _unusable(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """What stands inside << >> and why it is of no use."""
    for message in conversation.messages:
        for marked in MARKED.finditer(message.content) if message.role == "assistant" else ():
            annotation = ANNOTATION.fullmatch(marked[0])
            reason = _fault(annotation["expression"], annotation["result"]) if annotation else "is no arithmetic"
            if reason:
                yield marked["inside"], reason


def _fault(expression: str, result: str) -> str | None:
    """Why a result is not the calculator's, None where it is, to the places that it is written with."""
    try:
        value = value_of(expression)
    except InputError:
        return "has no value"
    written = _number(result)
    places = len(result.strip().partition(".")[2])
    if written is None or abs(written - value) > Fraction(1, 2 * 10**places):
        return f"is wrong, the calculator gives {evaluate(expression)}"
    return None


def _kind(expression: str, result: str) -> str:
    try:
        value = evaluate(expression)
    except InputError:
        return "without_value" if result == NO_VALUE else "wrong"
    return "right" if _number(result) == Fraction(value) else "wrong"


def _number(text: str) -> Fraction | None:
    stripped = text.strip().replace(",", "")
    return Fraction(stripped) if NUMBER.fullmatch(stripped) else None
