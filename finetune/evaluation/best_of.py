"""Several replies to each question, of which one is taken: the likeliest, or one with the answer that most give.

The second is self-consistency (Wang et al. 2022, https://arxiv.org/abs/2203.11171). An answer is what exact match looks
at. A reply that its limit cut before a `####` has none, and no vote.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from finetune.conversations.formats import Conversation, final_answer
from finetune.evaluation.draw import BestBy, Draw
from finetune.evaluation.one_batch import answer_all, share_weights
from finetune.evaluation.reply_checks import answer_given
from finetune.evaluation.scoring import Answered
from finetune.replies.asked_model import AskedModel, TextReply
from finetune.replies.local_model import LocalModel


@dataclass
class Drawn:
    """The replies to one question."""

    conversation: Conversation
    replies: list[TextReply]
    nats_per_token: dict[int, float] = field(default_factory=dict)
    """What the model, without temperature, found each id of a reply to cost on average, its end included, by the number
    of the reply; only of those that were scored."""

    @property
    def answers(self) -> list[str | None]:
        """The final answer of each; None where it has none."""
        return [answer_of(reply) for reply in self.replies]

    def foremost(self) -> list[int]:
        """The replies with the answer that most of them give, with each of them where several are; all without any."""
        votes = Counter(answer for answer in self.answers if answer is not None)
        most = max(votes.values(), default=0)
        # A reply without an answer has no vote, so it is among the foremost only where nobody has one.
        return [number for number, answer in enumerate(self.answers) if votes[answer] == most]  # type: ignore[index]

    def take(self, by: BestBy) -> int:
        """The number of the reply that is taken: of those that come first the likeliest, unscored the first drawn."""
        among = range(len(self.replies)) if by == "likelihood" else self.foremost()
        return min(among, key=lambda number: self.nats_per_token.get(number, math.inf))

    def to_score(self, by: BestBy) -> list[int]:
        """The numbers of the replies between which only their likelihood decides."""
        if len(self.replies) == 1:
            return []
        if by == "likelihood":
            return list(range(len(self.replies)))
        foremost = self.foremost()
        return foremost if len({self.answers[number] for number in foremost}) > 1 or not any(self.answers) else []

    def to_record(self, by: BestBy) -> dict[str, Any]:
        """Every reply with its answer, its likelihood and what it cost, and which was taken."""
        return {
            "taken": self.take(by),
            "samples": [
                {
                    "reply": reply.text,
                    "final_answer": answer,
                    "tokens": reply.tokens,
                    "nats_per_token": self.nats_per_token.get(number),
                }
                for number, (reply, answer) in enumerate(zip(self.replies, self.answers, strict=True))
            ],
        }


@dataclass(frozen=True)
class Taken:
    """The replies of one model: all that were drawn, and what that took."""

    draw: Draw
    drawn: list[Drawn]
    seconds: float
    """Of drawing; in a batch with another model, the share of its tokens."""
    scoring_seconds: float = 0.0

    @property
    def answered(self) -> list[Answered]:
        """Each question with the reply that is taken."""
        best = [(one.conversation, one.replies[one.take(self.draw.by)]) for one in self.drawn]
        return [Answered(conversation, reply.text, reply.stopped) for conversation, reply in best]

    @property
    def replies(self) -> int:
        """How many were drawn in all."""
        return self.draw.replies * len(self.drawn)

    @property
    def tokens(self) -> int | None:
        """Tokens of all replies; None where a server does not count them."""
        counts = [reply.tokens for one in self.drawn for reply in one.replies]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def without_answer(self) -> int:
        """Replies that have no final answer."""
        return sum(answer is None for one in self.drawn for answer in one.answers)

    def describe(self, before: str = "") -> str:
        """How the replies were chosen and what each cost, in one line behind `before`; empty where one was drawn."""
        if self.draw.replies == 1:
            return ""
        tokens = "tokens not counted by the server" if self.tokens is None else f"{self.tokens:,} tokens"
        each = "" if self.tokens is None else f"{self.tokens / self.replies:.1f} tokens and "
        scoring = f", {self.scoring_seconds:.1f} s more to score them" if self.scoring_seconds else ""
        unanswered = f"; {self.without_answer} of {self.replies} without a final answer"
        return (
            f"{before}best of {self.draw.replies} by {self.draw.by} at temperature {self.draw.sampling.temperature:g}: "
            f"{tokens} in {self.seconds:.1f} s, {each}{self.seconds / self.replies:.2f} s a sample{scoring}"
            f"{unanswered if self.draw.by == 'majority' else ''}"
        )

    def to_record(self) -> dict[str, Any]:
        """What the replies cost, for JSON."""
        return {
            "samples": self.replies,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_sample": None if self.tokens is None else self.tokens / self.replies,
            "seconds_per_sample": self.seconds / self.replies,
            "scoring_seconds": self.scoring_seconds,
            "without_final_answer": self.without_answer,
        }


def answer_of(reply: TextReply) -> str | None:
    """The final answer of a reply: what follows its last `####`, or all of a reply that came to its end.

    >>> (
    ...     answer_of(TextReply("2+2=4 #### 4.0", False, False)),
    ...     answer_of(TextReply("4", True)),
    ...     answer_of(TextReply("2+2 is", False, False)),
    ... )
    ('4', '4', None)
    """
    return answer_given(reply.text) if reply.is_whole or final_answer(reply.text) is not None else None


def take_best(
    models: Mapping[str, AskedModel], conversations: Sequence[Conversation], reply_tokens: int, draw: Draw
) -> dict[str, Taken]:
    """What each model, by its label, replies: drawn with the same noise, a base and its adapter in one batch."""
    found = {}
    for some in [models] if share_weights(list(models.values())) else [{label: models[label]} for label in models]:
        began = time.perf_counter()
        replies = _draw(some, conversations, reply_tokens, draw)
        seconds = time.perf_counter() - began
        tokens = {label: sum(reply.tokens or 0 for reply in of_one) for label, of_one in replies.items()}
        for label, of_one in replies.items():
            share = tokens[label] / max(sum(tokens.values()), 1) if len(some) > 1 else 1.0
            by_question = [of_one[start : start + draw.replies] for start in range(0, len(of_one), draw.replies)]
            drawn = [Drawn(*one) for one in zip(conversations, by_question, strict=True)]
            found[label] = Taken(draw, drawn, seconds * share, _score(some[label], drawn, draw.by))
    return found


def _draw(
    models: Mapping[str, AskedModel], conversations: Sequence[Conversation], reply_tokens: int, draw: Draw
) -> dict[str, list[TextReply]]:
    """So many replies of each model to the first conversation, then to the next one."""
    if all(isinstance(one, LocalModel) for one in models.values()):
        repeated = [one for one in conversations for _ in range(draw.replies)]  # each row has noise of its own
        return answer_all(models, repeated, reply_tokens, draw.sampling)
    rounds = [  # a server has noise by the seed alone
        answer_all(models, conversations, reply_tokens, replace(draw.sampling, seed=draw.sampling.seed + number))
        for number in range(draw.replies)
    ]
    return {label: list(chain(*zip(*(one[label] for one in rounds), strict=True))) for label in models}


def _score(model: AskedModel, drawn: Sequence[Drawn], by: BestBy) -> float:
    """Has the model score the replies between which that decides, and returns the seconds that it took."""
    places = [(one, number) for one in drawn for number in one.to_score(by)]
    if not places or not isinstance(model, LocalModel):
        return 0.0
    began = time.perf_counter()
    replies = [one.replies[number] for one, number in places]
    costs = model.nats_per_token([one.conversation for one, _ in places], replies)
    for (one, number), nats in zip(places, costs, strict=True):
        one.nats_per_token[number] = nats
    return time.perf_counter() - began
