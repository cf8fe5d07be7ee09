"""Several models that are asked at the same time: what each has said so far, again and again until all have ended."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.messages import Conversation
from finetune.replies.asked_model import AskedModel, PartialReply
from scratch_models.decoding.sampling_settings import Sampling

SECONDS_BETWEEN_STATES = 0.05
"""A browser that draws more often falls behind."""
SECONDS_OF_REST = 0.01
AT_FULL_RATE = 3
"""So many calls at a time give states that often; more of them share what a page can lay out, compare and send."""
_UNDER_WAY: set[object] = set()


@dataclass(frozen=True, kw_only=True)
class SideAsked:
    """What one of the models is asked."""

    model: AskedModel
    conversation: Conversation
    """Its last message is the reply that is waited for, still empty."""
    reply_tokens: int
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class SideState:
    """What one side has said so far."""

    reply: PartialReply = PartialReply()  # noqa: RUF009 - it is frozen
    refused: str = ""
    """Why there is no reply."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.reply.ended or self.refused)


def ask_together(
    asked: Sequence[SideAsked], stop: threading.Event, *, seconds_between: float = SECONDS_BETWEEN_STATES
) -> Generator[tuple[SideState, ...]]:
    """The states of all sides, one every `seconds_between` at most, the last one whole; fewer while many ask.

    No side waits for another. All end within a token once `stop` is set; a caller that closes the generator ends them
    too.
    """
    with ExitStack() as stack:
        this = object()
        _UNDER_WAY.add(this)
        stack.callback(_UNDER_WAY.discard, this)
        speaking = {number: stack.enter_context(closing(_states(one, stop))) for number, one in enumerate(asked)}
        states = shown = [SideState() for _ in asked]
        due = time.monotonic()
        while speaking:
            states = list(states)
            for number, speaker in list(speaking.items()):
                states[number] = next(speaker)
                if states[number].is_whole:
                    del speaking[number]
            crowd = max(1.0, len(_UNDER_WAY) / AT_FULL_RATE)
            if speaking and states != shown and time.monotonic() >= due:
                shown, due = states, time.monotonic() + crowd * seconds_between
                yield tuple(states)
            if speaking:
                stop.wait(max(crowd * SECONDS_OF_REST, due - time.monotonic()))
    yield tuple(states)


def _states(asked: SideAsked, stop: threading.Event) -> Generator[SideState]:
    try:
        replies = asked.model.stream(asked.conversation, asked.reply_tokens, asked.sampling, stop)
        with closing(replies):
            for reply in replies:
                yield SideState(reply=reply)
    except InputError as error:
        yield SideState(refused=str(error))
