"""Two replies that grow side by side: what each pane shows after every step."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from transformers import PreTrainedModel

from apps.form import Asked
from configs import InputError
from finetune.conversations.formats import Message
from finetune.replies.generation import Reply, stream_reply
from finetune.replies.prompts import ChatPromptFormat, PlainPromptFormat, PromptFormat

SECONDS_BETWEEN_UPDATES = 0.05  # a browser that draws more often falls behind
UNFINISHED = "\ufffd"  # what decoders write for bytes that are not yet a character


@dataclass(frozen=True)
class Side:
    """A model and the prompt format in which it is asked."""

    model: PreTrainedModel
    prompt_format: PromptFormat


@dataclass(frozen=True, kw_only=True)
class Pane:
    """What one side has said so far."""

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    """The model's own time, without that of its neighbour."""
    ended: str = ""
    """Why the reply ended; empty while it goes on."""
    refused: str = ""
    """Why there is no reply."""

    @property
    def status(self) -> str:
        """The line under the pane.

        >>> Pane(text="Two", tokens=1, seconds=0.5, ended="end of turn").status
        '1 token · 2.0 tokens/s · end of turn'
        """
        if self.refused:
            return self.refused
        count = f"{self.tokens} token{'' if self.tokens == 1 else 's'}"
        speed = f"{self.tokens / self.seconds:.1f} tokens/s" if self.tokens and self.seconds else ""
        return " · ".join(part for part in (count, speed, self.ended or "…") if part)


def answer_side_by_side(
    sides: Sequence[Side], asked: Asked, stop: threading.Event, *, seconds_between: float = SECONDS_BETWEEN_UPDATES
) -> Generator[tuple[Pane, ...]]:
    """The panes of sides that speak in turn, a token each: a state every `seconds_between` at most, then the last.

    Ends within one token of each side once `stop` is set; a caller that closes the generator ends both replies.
    """
    with ExitStack() as stack:
        speaking = {i: stack.enter_context(closing(speak(side, asked, stop))) for i, side in enumerate(sides)}
        panes = [Pane() for _ in sides]
        shown = -seconds_between
        while speaking:
            for i, speaker in list(speaking.items()):
                panes[i] = next(speaker)
                if panes[i].ended or panes[i].refused:
                    del speaking[i]
            now = time.monotonic()
            if speaking and now - shown >= seconds_between:
                shown = now
                yield tuple(panes)
    yield tuple(panes)


def speak(side: Side, asked: Asked, stop: threading.Event) -> Generator[Pane]:
    """The pane of one side after every token; the last one says why the reply ended, or was refused."""
    stream = stream_reply(
        side.model,
        side.prompt_format.prompt_ids([Message("user", asked.prompt)]),
        max_new_tokens=asked.maximum_tokens,
        stop_ids=side.prompt_format.stop_ids,
        sampling=asked.sampling,
        stop=stop,
        calculator=side.prompt_format.calculator,
    )
    ids: list[int] = []
    seconds = 0.0
    with closing(stream):
        while True:
            began = time.perf_counter()
            try:
                ids.append(next(stream))
            except StopIteration as end:
                ended = _why_ended(side, end.value, asked, stop)
                break
            except InputError as error:
                yield Pane(refused=str(error))
                return
            finally:
                seconds += time.perf_counter() - began
            if _next_turn_began(side.prompt_format, ids):
                ended = "next turn began"
                break
            yield Pane(text=side.prompt_format.text(ids).rstrip(UNFINISHED), tokens=len(ids), seconds=seconds)
    yield Pane(text=side.prompt_format.text(ids), tokens=len(ids), seconds=seconds, ended=ended)


def _why_ended(side: Side, reply: Reply, asked: Asked, stop: threading.Event) -> str:
    if reply.stopped:
        return "end of turn" if isinstance(side.prompt_format, ChatPromptFormat) else "end of text"
    if len(reply.ids) == asked.maximum_tokens:
        return f"length: limit of {asked.maximum_tokens} tokens"
    if stop.is_set():
        return "stopped"
    return "length: no position left in the model"


def _next_turn_began(prompt_format: PromptFormat, ids: Sequence[int]) -> bool:
    """Whether a base model went on to another turn: what follows belongs to no reply."""
    if not isinstance(prompt_format, PlainPromptFormat):
        return False
    # One more character is shown as long as the reply goes on.
    said = f"{prompt_format.tokenizer.decode(list(ids))}."
    return prompt_format.prompt.cut(said).strip() != said.strip()
