"""One reply under way as a row of a batch, and the next ids of rows that are each sampled in their own way.

Shapes: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from configs import InputError
from finetune.serving.reply_request import Alternative, Ended, Piece, ReplyRequest, TokenScore
from finetune.serving.reply_stream import ReplyStream
from finetune.serving.reply_text import ReplyText, TokenTexts
from scratch_models.decoding.sampling import next_ids, row_generator


@dataclass(eq=False)
class ReplyRow:
    """One choice of a request."""

    stream: ReplyStream
    request: ReplyRequest
    choice: int
    limit: int
    """Most ids: the request's, or what the model has positions for."""
    texts: TokenTexts
    ids: int = 0
    """Ids that were chosen so far."""
    last_id: int = -1
    began: float = 0.0
    """When its first id was chosen, on the monotonic clock."""

    def __post_init__(self) -> None:
        self.generator = row_generator(self.request.sampling, self.choice)
        self.text = ReplyText(self.texts, self.request.stop_texts)
        self.listener = self.request.calculator.listen() if self.request.calculator else None

    @property
    def most_ids(self) -> int:
        """Ids of the prompt and of the longest reply."""
        return len(self.request.prompt_ids) + self.limit

    @property
    def is_given(self) -> bool:
        """Whether its next id is a calculator's."""
        return self.listener is not None and self.listener.speaks

    def hear(self, id_: int) -> int:
        """The next id: what a calculator says, else what was chosen."""
        return self.listener.next_id(id_) if self.listener else id_

    def take(self, id_: int, score: TokenScore | None) -> bool:
        """Gives the stream what the next id adds; whether the reply goes on."""
        self.ids += 1
        self.last_id = id_
        ended_by_id = id_ in self.request.stop_ids
        if not ended_by_id:
            self._give(*self.text.add(id_, score))
        if not (ended_by_id or self.text.stopped or self.ids >= self.limit):
            return True
        self._give(*self.text.finish())
        reason: Literal["stop", "length"] = "stop" if ended_by_id or self.text.stopped else "length"
        self.stream.put(Ended(self.choice, reason, self.ids, len(self.request.prompt_ids)))
        return False

    def _give(self, text: str, tokens: tuple[TokenScore, ...]) -> None:
        if text or tokens:
            self.stream.put(Piece(self.choice, text, tokens))


@dataclass
class Chosen:
    """What was chosen for the rows of a batch, in their order."""

    ids: list[int]
    scores: dict[int, TokenScore] = field(default_factory=dict)
    """By the place of the row; of those that asked for logprobs."""
    broken: dict[int, InputError] = field(default_factory=dict)
    """By the place of the row; their logits are no numbers to choose by."""


def choose(rows: Sequence[ReplyRow], logits: Tensor) -> Chosen:
    """The next id of each row, (B, V), drawn as its request says; a row of broken logits breaks no other."""
    groups: dict[tuple[float, int, float], list[int]] = {}
    for place, row in enumerate(rows):
        sampling = row.request.sampling
        groups.setdefault((sampling.temperature, sampling.top_k, sampling.top_p), []).append(place)
    chosen, given = Chosen([-1] * len(rows)), [row.is_given for row in rows]
    for places in groups.values():
        theirs = logits if len(places) == len(rows) else logits[torch.tensor(places, device=logits.device)]
        try:
            _draw([rows[place] for place in places], places, theirs, chosen)
        except InputError:
            for place in places:
                try:
                    _draw([rows[place]], [place], logits[place : place + 1], chosen)
                except InputError as error:
                    chosen.broken[place] = error
    scored = [place for place, row in enumerate(rows) if row.request.logprobs is not None]
    _score(rows, [place for place in scored if place not in chosen.broken], logits, chosen, given)
    return chosen


def _draw(rows: Sequence[ReplyRow], places: Sequence[int], logits: Tensor, chosen: Chosen) -> None:
    ids = next_ids(logits, rows[0].request.sampling, [row.generator for row in rows]).tolist()
    for number, (place, id_) in enumerate(zip(places, ids, strict=True)):
        chosen.ids[place] = rows[number].hear(id_)


def _score(
    rows: Sequence[ReplyRow], places: Sequence[int], logits: Tensor, chosen: Chosen, given: Sequence[bool]
) -> None:
    if not places:
        return
    logprobs = logits[torch.tensor(places, device=logits.device)].float().log_softmax(dim=-1)  # (places, V)
    likeliest, ids = logprobs.topk(min(logprobs.shape[-1], max(rows[place].request.logprobs or 0 for place in places)))
    for number, place in enumerate(places):
        texts, asked, id_ = rows[place].texts, rows[place].request.logprobs, chosen.ids[place]
        pairs = zip(ids[number, :asked].tolist(), likeliest[number, :asked].tolist(), strict=True)
        top = tuple(Alternative(*texts.of(other), logprob) for other, logprob in pairs)
        chosen.scores[place] = TokenScore(
            *texts.of(id_), float(logprobs[number, id_]), top, id_, is_own=not given[place]
        )
