"""Two replies that grow side by side: what each pane shows after every step."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from apps.form import Asked
from configs import InputError
from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.one_batch import stream_all
from finetune.replies.asked_model import AskedModel, PartialReply

SECONDS_BETWEEN_UPDATES = 0.05  # a browser that draws more often falls behind
SECONDS_OF_REST = 0.01  # where all wait for servers


@dataclass(frozen=True, kw_only=True)
class Pane:
    """What one side has said so far."""

    reply: PartialReply = PartialReply()  # noqa: RUF009 - it is frozen
    refused: str = ""
    """Why there is no reply."""

    @property
    def text(self) -> str:
        """What the pane shows."""
        return self.reply.text

    @property
    def status(self) -> str:
        """The line under the pane.

        >>> Pane(reply=PartialReply(text="Two", pieces=1, seconds=0.5, ended="end of turn")).status
        '1 token · 2.0 tokens/s · end of turn'
        """
        if self.refused:
            return self.refused
        pieces, seconds, unit = self.reply.pieces, self.reply.seconds, self.reply.piece
        count = f"{pieces} {unit}{'' if pieces == 1 else 's'}"
        speed = f"{pieces / seconds:.1f} {unit}s/s" if pieces and seconds else ""
        return " · ".join(part for part in (count, speed, self.reply.ended or "…") if part)

    @property
    def is_whole(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.reply.ended or self.refused)


def answer_side_by_side(
    models: Sequence[AskedModel],
    asked: Asked,
    stop: threading.Event,
    *,
    seconds_between: float = SECONDS_BETWEEN_UPDATES,
) -> Generator[tuple[Pane, ...]]:
    """The panes of models that speak a token each: a state every `seconds_between` at most, then the last.

    A base and its adapter speak in one batch, others in turn.

    Ends within one token of each model once `stop` is set; a caller that closes the generator ends both replies.
    """
    with ExitStack() as stack:
        streams = stream_all(models, _put(asked), asked.maximum_tokens, asked.sampling, stop)
        speaking = {i: stack.enter_context(closing(_panes(stream))) for i, stream in enumerate(streams)}
        panes = [Pane() for _ in models]
        shown = -seconds_between
        while speaking:
            before = list(panes)
            for i, speaker in list(speaking.items()):
                panes[i] = next(speaker)
                if panes[i].is_whole:
                    del speaking[i]
            now = time.monotonic()
            if speaking and now - shown >= seconds_between:
                shown = now
                yield tuple(panes)
            if panes == before:
                time.sleep(SECONDS_OF_REST)
    yield tuple(panes)


def speak(model: AskedModel, asked: Asked, stop: threading.Event) -> Generator[Pane]:
    """The pane of one model as its reply grows; the last one says why the reply ended, or was refused."""
    (stream,) = stream_all([model], _put(asked), asked.maximum_tokens, asked.sampling, stop)
    return _panes(stream)


def _put(asked: Asked) -> Conversation:
    return Conversation((Message("user", asked.prompt), Message("assistant", "")), source="prompt")


def _panes(stream: Generator[PartialReply]) -> Generator[Pane]:
    try:
        with closing(stream) as replies:
            for reply in replies:
                yield Pane(reply=reply)
    except InputError as error:
        yield Pane(refused=str(error))
