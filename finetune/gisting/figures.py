"""What gist tokens keep of a prompt and what they save, in figures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median

import torch
from transformers import PreTrainedModel

from finetune.evaluation.intervals import Interval, ratio_interval
from finetune.gisting.monitor import GistMonitor, divergences
from finetune.gisting.prompted_replies import Replies
from finetune.gisting.teacher import reply_to
from finetune.losses.divergence import Compared
from scratch_models.decoding.sampling_settings import Sampling

TIMES_READ = 5


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is known of the replies behind gist tokens, or behind nothing, beside those behind the prompt."""

    kl_nats_per_token: float
    same_choice: float
    """Share of the tokens of the base's replies that are the first choice here too, given those before."""
    agreeing_tokens: int
    """Tokens of greedy replies up to the first that differs, over all questions."""
    equal_replies: int
    """Greedy replies that are the same to their end."""


@dataclass(frozen=True, kw_only=True)
class GistFigures:
    """What a run shows of itself."""

    prompt_tokens: int
    gist_tokens: int
    questions: int
    """Held out."""
    reply_tokens: int
    """Of the base's greedy replies to them, behind the prompt."""
    share_left: float
    """KL with the gist tokens over KL without a prompt, in sums over held-out replies."""
    share_left_interval: Interval
    """At 95 %, by the bootstrap over questions."""
    gist: Side
    nothing: Side
    largest_gist_share: float
    """The most that gist tokens get together of the probability of any place in these replies."""
    gist_tokens_said: int
    """Gist tokens in the greedy replies behind them, though nothing forbids them."""
    request_tokens: tuple[int, int]
    """Tokens of a typical held-out question with the prompt, and with the gist tokens."""
    request_seconds: tuple[float, float]
    """Until the first token of its reply, with the one and the other."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A held-out question with its greedy replies."""

    question: str
    after_prompt: str
    after_gist: str
    after_nothing: str


def measure_gist(monitor: GistMonitor, prompt_tokens: int, reply_tokens: int) -> tuple[GistFigures, list[Sample]]:
    """Asks the held-out questions behind gist tokens and behind nothing, and compares."""
    gist, held_out = monitor.gist, monitor.held_out
    form, greedy = gist.form, Sampling(temperature=0.0)
    found = monitor.compare(form.after_gist, "held-out replies")
    replies = [
        reply_to(gist.model, form, [ask(one.messages) for one in held_out.questions], reply_tokens, greedy)
        for ask in (form.after_gist, form.after_nothing)
    ]
    kept, lost = divergences(found), divergences(monitor.without)
    first_new_id = gist.extended.first_new_id
    typical = sorted(held_out.questions, key=lambda one: len(form.after_nothing(one.messages)))[len(kept) // 2]
    requests = [ask(typical.messages) for ask in (form.after_prompt, form.after_gist)]
    figures = GistFigures(
        prompt_tokens=prompt_tokens,
        gist_tokens=len(gist.gist),
        questions=len(kept),
        reply_tokens=sum(map(len, held_out.replies)),
        share_left=sum(kept) / sum(lost),
        share_left_interval=ratio_interval(kept, lost),
        gist=_side(found, held_out.replies, replies[0]),
        nothing=_side(monitor.without, held_out.replies, replies[1]),
        largest_gist_share=max(float(one.new_share.max()) for one in found),
        gist_tokens_said=sum(id_ >= first_new_id for reply in replies[0] for id_ in reply),
        request_tokens=(len(requests[0]), len(requests[1])),
        request_seconds=_seconds_to_read(gist.model, requests),
    )
    texts = [[form.prompt_format.text(reply) for reply in some] for some in (held_out.replies, *replies)]
    samples = [
        Sample(question=one.messages[-1].content, after_prompt=first, after_gist=second, after_nothing=third)
        for one, first, second, third in zip(held_out.questions, *texts, strict=True)
    ]
    return figures, samples


def agreeing(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two replies begin with alike.

    >>> agreeing([5, 6, 7], [5, 6, 8, 7])
    2
    """
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _side(compared: Sequence[Compared], expected: Replies, replies: Replies) -> Side:
    tokens = sum(map(len, expected))
    pairs = list(zip(expected, replies, strict=True))
    return Side(
        kl_nats_per_token=sum(divergences(compared)) / tokens,
        same_choice=sum(int(one.same_choice.sum()) for one in compared) / tokens,
        agreeing_tokens=sum(agreeing(first, second) for first, second in pairs),
        equal_replies=sum(first == second for first, second in pairs),
    )


@torch.no_grad()
def _seconds_to_read(model: PreTrainedModel, requests: Sequence[Sequence[int]]) -> tuple[float, float]:
    """The median time of reading each request whole, by turns, up to the scores of what follows."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES_READ):
        for times, ids in zip(taken, requests, strict=True):
            asked = torch.tensor([ids], device=model.device)
            began = time.perf_counter()
            model(input_ids=asked, use_cache=True, logits_to_keep=1).logits.cpu()
            times.append(time.perf_counter() - began)
    return median(taken[0]), median(taken[1])
