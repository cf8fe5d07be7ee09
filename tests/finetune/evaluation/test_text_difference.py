"""Scores of a text against scipy's, and texts that two tokenizers cut differently."""

import math
from typing import Any

import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, rankdata

from finetune.evaluation.text_difference import Reading, bits_per_byte, compare_readings
from finetune.studio.given_texts import pasted_texts
from finetune.studio.most_changed import MostChanged

PIECES = [b"ab", b"c", b"d", b"e"]
IDS = [3, 0, 6, 2]


@pytest.fixture
def logits():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(4, 7, generator=draw) * 3, torch.randn(4, 7, generator=draw) * 3


def test_probability_rank_likeliest_and_divergence_are_those_of_scipy(logits):
    base, tuned = logits
    readings = Reading(IDS, PIECES, base.split(3)), Reading(IDS, PIECES, tuned.split([1, 2, 1]))
    found: Any = compare_readings(*readings, share_ids=True)
    assert found.is_paired and len(found.spans) == 4
    for place, span in enumerate(found.spans):
        for (token,), side in ((span.base, base[place]), (span.tuned, tuned[place])):
            expected = log_softmax(side.double().numpy())
            assert math.isclose(token.logprob, expected[IDS[place]], abs_tol=1e-5)
            assert token.rank == rankdata(-expected)[IDS[place]]
            assert [one.id for one in token.likeliest] == list((-expected).argsort())
        divergence = entropy(softmax(base[place].double().numpy()), softmax(tuned[place].double().numpy()))
        assert math.isclose(span.divergence, divergence, abs_tol=1e-5)
        assert math.isclose(span.change, span.tuned[0].logprob - span.base[0].logprob)


def test_what_nothing_stands_before_is_not_scored_and_costs_nothing(logits):
    base, tuned = logits
    found: Any = compare_readings(Reading(IDS, PIECES, [base]), Reading(IDS, PIECES, [tuned[1:]], 1), share_ids=True)
    first, *others = found.spans
    assert first.change is None and first.divergence is None and first.base_logprob is not None
    assert all(span.change is not None and span.divergence is not None for span in others)
    nats = -sum(token.logprob for token in found.tuned[1:])
    bits: Any = bits_per_byte(found.tuned)
    assert math.isclose(bits, nats / math.log(2) / 3)


def test_the_divergence_of_a_model_that_knows_more_ids_is_over_those_that_both_know(logits):
    base, tuned = logits
    more = torch.cat([tuned, torch.full((4, 3), 9.0)], dim=-1)
    exact: Any = compare_readings(Reading(IDS, PIECES, [base]), Reading(IDS, PIECES, [tuned]), share_ids=True)
    found: Any = compare_readings(Reading(IDS, PIECES, [base]), Reading(IDS, PIECES, [more]), share_ids=True)
    for span, expected in zip(found.spans, exact.spans, strict=True):
        assert math.isclose(span.divergence, expected.divergence, abs_tol=1e-5)
        assert span.tuned_logprob < expected.tuned_logprob


def test_texts_that_are_cut_differently_meet_where_both_have_a_cut(logits):
    base, tuned = logits
    # What a plain prompt puts before the text, a space, is no part of the other's.
    readings = (
        Reading([1, 2, 3], [b" ab", b"c", b"de"], [base[:3]]),
        Reading([1, 2, 3], [b"abc", b"d", b"e"], [tuned[:3]]),
    )
    found: Any = compare_readings(readings[0], readings[1], share_ids=False)
    assert [(span.bytes, len(span.base), len(span.tuned)) for span in found.spans] == [(b"abc", 2, 1), (b"de", 1, 2)]
    assert not found.is_paired and all(span.divergence is None for span in found.spans)
    assert math.isclose(found.spans[0].base_logprob, found.base[0].logprob + found.base[1].logprob)
    other: Any = compare_readings(
        Reading([1], [b"\xc3\xa9"], [base[:1]]), Reading([1], [b"e"], [tuned[:1]]), share_ids=False
    )
    assert len(other.spans) == 1


def test_most_changed_adds_up_all_places_of_a_token(logits):
    base, tuned = logits
    ids, pieces = [3, 0, 3, 2], [b"x", b"y", b"x", b"z"]
    found: Any = MostChanged()
    for _ in range(2):
        difference: Any = compare_readings(
            Reading(ids, pieces, [base]), Reading(ids, pieces, [tuned[1:]], 1), share_ids=True
        )
        found.add("a line", difference)
    (x, y, z) = (found.by_text[text] for text in (b"x", b"y", b"z"))
    assert (found.texts, found.tokens, found.unscored, x.times, y.times) == (2, 6, 2, 2, 2)
    change = {span.bytes: span.change for span in difference.spans[1:]}
    assert math.isclose(x.sum_of_changes, 2 * change[b"x"])
    assert x.most.before == "xy"
    assert found.most("change", 3) == sorted((x, y, z), key=lambda one: -abs(one.mean_change))


def test_pasted_lines_are_conversations_and_texts():
    lines = '{"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]}\n\nplain {text}'
    first, second = pasted_texts(lines)
    assert (first.messages[0].content, first.text, first.source) == ("a?", "b", "line 1")
    assert (second.messages, second.text, second.source) == ((), "plain {text}", "line 3")
