"""The tokens that a tuned model finds likelier or less likely than its base did, over many texts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from finetune.evaluation.text_difference import Span, TextDifference, bits_per_byte

Order = Literal["change", "divergence"]
BEFORE = 40
"""Bytes of text that are shown before a place."""


@dataclass(frozen=True)
class ChangedPlace:
    """One place of a text."""

    source: str
    before: str
    """The end of the text before it."""
    span: Span

    @property
    def change(self) -> float:
        """In nats; only places where it is known are kept."""
        return self.span.change or 0.0


@dataclass
class ChangedToken:
    """Every place of one token."""

    text: bytes
    times: int = 0
    sum_of_changes: float = 0.0
    sum_of_divergences: float = 0.0
    diverged: int = 0
    """Places whose divergence is known."""
    most: ChangedPlace | None = None
    """Where it changed most."""

    @property
    def mean_change(self) -> float:
        """Nats a place."""
        return self.sum_of_changes / self.times

    @property
    def mean_divergence(self) -> float | None:
        """Nats a place; None where it is known of none."""
        return self.sum_of_divergences / self.diverged if self.diverged else None


@dataclass
class MostChanged:
    """What was read, and how each token changed in it."""

    texts: int = 0
    tokens: int = 0
    unscored: int = 0
    """Stretches that had nothing before them, or that the two read as other bytes."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Texts that were not scored, by why."""
    by_text: dict[bytes, ChangedToken] = field(default_factory=dict)
    bits: list[tuple[float, float]] = field(default_factory=list)
    """Bits per byte of each text to base and tuned."""

    def add(self, source: str, difference: TextDifference) -> None:
        """Counts one text in."""
        self.texts += 1
        base, tuned = bits_per_byte(difference.base), bits_per_byte(difference.tuned)
        if base is not None and tuned is not None:
            self.bits.append((base, tuned))
        before = b""
        for span in difference.spans:
            if span.change is None or (len(difference.spans) == 1 < len(span.base)):
                self.unscored += 1
            else:
                self._add(ChangedPlace(source, before[-BEFORE:].decode(errors="replace"), span), span.change)
            before += span.bytes

    def most(self, order: Order, number: int) -> Sequence[ChangedToken]:
        """The tokens with the most change or divergence, all their places together."""

        def amount(token: ChangedToken) -> float:
            return token.sum_of_divergences if order == "divergence" else abs(token.sum_of_changes)

        return sorted(self.by_text.values(), key=lambda token: (-amount(token), token.text))[:number]

    def _add(self, place: ChangedPlace, change: float) -> None:
        self.tokens += 1
        text = place.span.bytes
        token = self.by_text.setdefault(text, ChangedToken(text))
        token.times += 1
        token.sum_of_changes += change
        if place.span.divergence is not None:
            token.sum_of_divergences += place.span.divergence
            token.diverged += 1
        if token.most is None or abs(change) > abs(token.most.change):
            token.most = place
