"""A model as whoever asks it sees it: in one prompt format, whether it is on this machine or on a server."""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune.conversations.messages import Conversation
from scratch_models.decoding.sampling_settings import Sampling


@dataclass(frozen=True)
class TextReply:
    """A whole reply."""

    text: str
    stopped: bool
    """Whether the model ended it itself."""
    is_whole: bool = True
    """Whether it came to an end, by the model's own or where another turn began; otherwise its limit cut it."""
    tokens: int | None = None
    """Tokens that were generated for it, the end among them; None where a server does not count them."""
    ids: tuple[int, ...] = ()
    """The same, of a model on this machine."""


@dataclass(frozen=True, kw_only=True)
class PartialReply:
    """A reply under way."""

    text: str = ""
    pieces: int = 0
    """How much of it has come: tokens, or what a server sends at once."""
    piece: str = "token"
    seconds: float = 0.0
    """What it has taken the model, without what whoever asks does between the pieces."""
    ended: str = ""
    """Why it ended; empty while it goes on."""
    waits_for: str = ""
    """What holds up a reply that has not begun, where that is known."""
    first_seconds: float | None = None
    """Until its first token came, where that is known."""
    nats: float | None = None
    """What the tokens that the model chose itself cost it, in all, where that is known: minus their log-probability."""
    own_tokens: int = 0
    """How many those are."""
    own_bytes: int = 0
    """The bytes of their text."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the known replies of conversations cost a model, in their order."""

    nats: list[float]
    text_bytes: list[int]


class AskedModel(Protocol):
    """A model in one prompt format. Each conversation is asked for its last message, after all that came before it."""

    def fits(self, conversation: Conversation) -> bool:
        """Whether there is a question, and the model has room for it and for the known reply."""

    def answer(self, conversations: Sequence[Conversation], reply_tokens: int, sampling: Sampling) -> list[TextReply]:
        """The model's replies, in the order of the conversations."""

    def stream(
        self, conversation: Conversation, reply_tokens: int, sampling: Sampling, stop: threading.Event
    ) -> Generator[PartialReply]:
        """The reply as it grows; the last state says why it ended. It ends soon once `stop` is set or it is closed.

        A state is given at once: the same one again where nothing has come yet.
        """

    def costs(self, conversations: Sequence[Conversation]) -> Costs | None:
        """What the known replies cost the model; None where it gives no likelihood of a text, as a server does."""


def has_question(conversation: Conversation) -> bool:
    """Whether anything is said before the reply."""
    return any(message.content for message in conversation.messages[:-1])
