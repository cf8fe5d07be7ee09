"""What a model is asked for, and what comes back piece by piece."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from configs import InputError
from scratch_models.decoding.sampling_settings import Sampling

if TYPE_CHECKING:
    from finetune.replies.calculator_decoding import ReplyCalculator

MOST_ALTERNATIVES = 20
"""As OpenAI's API has it."""


@dataclass(frozen=True, kw_only=True)
class ReplyRequest:
    """A prompt and what its replies are to be like."""

    prompt_ids: Sequence[int]
    most_tokens: int
    """Longest reply in tokens; it also ends where the model has no position left."""
    sampling: Sampling
    """How ids are chosen; choice number n has the noise of row n of the seed."""
    stop_ids: Sequence[int] = ()
    """Ids that end a reply and are no part of it."""
    stop_texts: Sequence[str] = ()
    """Texts that end a reply and are no part of it."""
    choices: int = 1
    """Replies to the one prompt."""
    logprobs: int | None = None
    """How many of the likeliest ids to name at each place, 0 for the chosen alone; None for no logprobs at all."""
    calculator: "ReplyCalculator | None" = None
    """What completes the arithmetic of a reply, where the model learned to open it."""

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise InputError("prompt: found 0 tokens, expected at least one")
        if self.most_tokens < 1:
            raise InputError(f"most_tokens is {self.most_tokens}, expected 1 or more")
        if self.choices < 1:
            raise InputError(f"choices is {self.choices}, expected 1 or more")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_ALTERNATIVES:
            raise InputError(f"logprobs is {self.logprobs}, expected a number from 0 to {MOST_ALTERNATIVES}, or none")
        if not all(self.stop_texts):
            raise InputError("stop_texts: found an empty text, expected at least one character in each")


@dataclass(frozen=True)
class Alternative:
    """An id that could have been chosen."""

    token: str
    bytes: tuple[int, ...]
    logprob: float


@dataclass(frozen=True)
class TokenScore:
    """A chosen id: its text, the bytes it stands for, and its log-probability (nats) before temperature and top-p."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[Alternative, ...] = ()
    """The likeliest ids in its place, the likeliest first; the chosen is among them only where it is one of them."""
    id: int = -1
    is_own: bool = True
    """Whether the model chose it; a calculator gave the others."""


@dataclass(frozen=True)
class Piece:
    """What was added to one choice."""

    choice: int
    text: str
    tokens: tuple[TokenScore, ...] = ()
    """The ids whose text it is; only where logprobs were asked for."""


@dataclass(frozen=True)
class Ended:
    """The end of one choice."""

    choice: int
    reason: Literal["stop", "length"]
    completion_tokens: int
    """Ids that were generated for it, the one that ended it among them."""
    prompt_tokens: int


class Full(Exception):
    """The queue has no room: come again after so many `seconds`; the message says so on one line."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds
