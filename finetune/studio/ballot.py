"""A blind vote between two replies: what was asked, how the sides were shuffled, and what was chosen."""

import random
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, get_args

from configs import InputError
from scratch_models.decoding.sampling_settings import Sampling

Choice = Literal["a", "b", "tie", "both bad"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One prompt for two models, and what each replied."""

    prompt: str
    models: tuple[str, str]
    proofs: tuple[str, str]
    """What exactly each of them was."""
    prompt_format: str
    sampling: Sampling
    """The same for both, noise included."""
    most_tokens: int
    replies: tuple[str, str]


@dataclass(frozen=True)
class Vote:
    """What was chosen, and where each side stood."""

    asked: Asked
    choice: Choice
    shuffle_seed: int
    """Of the generator that placed the sides; it has no other use."""
    id: str
    """That of its ballot, which counts once."""
    created_at: float = 0.0
    """Unix seconds."""

    @property
    def shown_first(self) -> int:
        """Which of the two models was A."""
        return first_shown(self.shuffle_seed)

    @property
    def winner(self) -> int | None:
        """Which of the two models won; None where neither did."""
        if self.choice not in ("a", "b"):
            return None
        return self.shown_first if self.choice == "a" else 1 - self.shown_first


@dataclass(frozen=True)
class Ballot:
    """Two replies without names."""

    asked: Asked
    shuffle_seed: int = field(default_factory=lambda: secrets.randbits(48))
    id: str = field(default_factory=lambda: f"vote-{secrets.token_hex(12)}")

    @property
    def is_equal(self) -> bool:
        """Whether there is nothing to choose between."""
        return self.asked.replies[0] == self.asked.replies[1]

    @property
    def shown(self) -> tuple[str, str]:
        """The replies as A and B."""
        return self._placed(self.asked.replies)

    @property
    def names(self) -> tuple[str, str]:
        """Who A and B are: for after the vote."""
        return self._placed(self.asked.models)

    def cast(self, choice: str) -> Vote:
        """The vote.

        Raises:
            InputError: there is no such choice, or nothing to choose between.
        """
        if choice not in CHOICES:
            raise InputError(f"vote: found {ascii(choice)[:40]}, expected one of {', '.join(CHOICES)}")
        if self.is_equal:
            raise InputError("vote: both replies are the same, so there is nothing to choose between")
        return Vote(self.asked, choice, self.shuffle_seed, self.id)

    def _placed(self, both: tuple[str, str]) -> tuple[str, str]:
        first = first_shown(self.shuffle_seed)
        return both[first], both[1 - first]


def first_shown(shuffle_seed: int) -> int:
    """Which of two sides stands first, 0 or 1, drawn by a generator of its own."""
    return random.Random(shuffle_seed).randrange(2)


def next_question(questions: str, done: Collection[str]) -> str:
    r"""The first of the questions, one a line, that is not done with: voted on, or replied to alike.

    >>> next_question("1+1?\n\n2+2?", {"1+1?"})
    '2+2?'

    Raises:
        InputError: there is none, or all are done with.
    """
    lines = [line.strip() for line in questions.splitlines() if line.strip()]
    if not lines:
        raise InputError("questions: is empty, expected one a line: or type a prompt and ask both")
    left = next((line for line in lines if line not in done), None)
    if left is None:
        raise InputError(
            f"questions: all {len(lines)} have a vote, or the same reply of both: add others, or change the seed"
        )
    return left
