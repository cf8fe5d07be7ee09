"""Models that are asked the same: base and adapter over one set of weights in one batch, any others in turn."""

import threading
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from typing import TypeGuard

from configs import InputError
from finetune.conversations.formats import Conversation
from finetune.replies.asked_model import AskedModel, PartialReply, TextReply
from finetune.replies.generation import Rows, generate_together
from finetune.replies.local_model import LocalModel, Steps
from finetune.replies.local_side import LocalSide
from finetune.replies.side import Side
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.pages.progress import progress


def share_weights(models: Sequence[AskedModel]) -> TypeGuard[Sequence[LocalModel]]:
    """Whether some of the models are the base under the adapters of the others."""
    local = [one for one in models if isinstance(one, LocalModel)]
    is_one = len(local) == len(models) and len({id(one.model) for one in local}) == 1
    return is_one and len({one.of_base for one in local}) == 2


def describe_batch(base: Side, tuned: Side) -> str:
    """How both are asked, in one line, where one is an adapter; empty where that was no question."""
    if not isinstance(base, LocalSide) or not isinstance(tuned, LocalSide):
        return ""
    if base.why_apart:
        return f"both: one after the other, each with weights of its own: {base.why_apart}"
    if not base.of_base:
        return ""
    weights = sum(one.nbytes for one in base.model.parameters())
    return f"both: in one batch, over the same {weights / 1e6:,.0f} MB of weights, read and held once"


def answer_all(
    models: Mapping[str, AskedModel], conversations: Sequence[Conversation], reply_tokens: int, sampling: Sampling
) -> dict[str, list[TextReply]]:
    """What each of the models, by its label, replies to the conversations: the ids are those that each gives alone."""
    asked = list(models.values())
    if not share_weights(asked):
        found = {}
        for label, one in models.items():
            with progress(label):
                found[label] = one.answer(conversations, reply_tokens, sampling)
        return found
    with progress("both in one batch"):
        replies = generate_together(
            asked[0].model,
            [one.asked(conversations) for one in asked],
            max_new_tokens=reply_tokens,
            sampling=sampling,
        )
    return {
        label: [one.read(reply) for reply in of_one] for label, one, of_one in zip(models, asked, replies, strict=True)
    }


def stream_all(
    models: Sequence[AskedModel],
    conversation: Conversation,
    reply_tokens: int,
    sampling: Sampling,
    stop: threading.Event,
) -> list[Generator[PartialReply]]:
    """The reply of each as it grows; in one batch a step gives each its next token, whichever asks for it first.

    A reply that ends, or is closed, leaves the batch, and the others go on.
    """
    if share_weights(models):
        try:
            asked = [one.asked([conversation]) for one in models]
            rows = Rows(models[0].model, asked, reply_tokens, sampling)
        except InputError:
            pass  # one of them cannot be asked this, and says so itself
        else:
            shared = _SharedSteps(rows, stop)
            return [one.states(shared.of(row), reply_tokens, stop) for row, one in enumerate(models)]
    return [_lazily(one, conversation, reply_tokens, sampling, stop) for one in models]


def _lazily(
    model: AskedModel, conversation: Conversation, reply_tokens: int, sampling: Sampling, stop: threading.Event
) -> Generator[PartialReply]:
    """The reply of a model that is asked when the first state is waited for: a refusal comes then too."""
    yield from model.stream(conversation, reply_tokens, sampling, stop)


class _SharedSteps:
    """One batch whose rows are each waited for by somebody else."""

    def __init__(self, rows: Rows, stop: threading.Event) -> None:
        self.rows, self.stop = rows, stop
        self.waiting = set(range(len(rows.prompts)))
        self.given: Mapping[int, deque[tuple[int, float]]] = {row: deque() for row in self.waiting}
        self.steps = rows.decode(sorted(self.waiting))
        self.seconds = 0.0
        self.broken: InputError | None = None

    def of(self, row: int) -> Steps:
        """The ids of one row."""
        ids: list[int] = []
        seconds, ends = 0.0, self.rows.ends
        try:
            while not ids or not ends.reached(row, ids[-1], len(ids)):
                if not self.given[row]:
                    self._step()
                if not self.given[row]:
                    break  # stopped, or there is no room for any id
                id_, seconds = self.given[row].popleft()
                ids.append(id_)
                if id_ not in self.rows.asked[row].stop_ids:
                    yield id_, seconds
            return self.rows.whole(row, ids), seconds
        finally:
            ends.left.add(row)
            self.waiting.discard(row)
            if not self.waiting:
                self.steps.close()

    def _step(self) -> None:
        """Takes one step of the batch, unless it was stopped.

        Raises:
            InputError: the model's logits are broken.

        """
        if self.broken is not None:
            raise self.broken
        if self.stop.is_set():
            return
        began = time.perf_counter()
        try:
            chosen = next(self.steps, {})
        except InputError as error:
            self.broken = error
            raise
        self.seconds += time.perf_counter() - began
        for row, id_ in chosen.items():
            self.given[row].append((id_, self.seconds))
