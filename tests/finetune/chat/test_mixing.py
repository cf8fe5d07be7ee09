"""Several sets mixed by weight: the shares are kept everywhere, and the order is the same however it is come by."""

import json

import numpy as np
import pytest

from configs import InputError
from finetune.chat.batches import ConversationBatches
from finetune.chat.mixing import ReadingOrder, draw
from finetune.chat.rendered import RenderedConversation
from finetune.conversations.messages import Conversation, Message
from finetune.conversations.splits import ConversationSplits, read_conversation_splits
from finetune.files.weighted_sets import Mixture, WeightedSet, read_sets
from tests.finetune.tiny_models import questions


def _mixture(rows, weights):
    sets = tuple(WeightedSet(f"{number}.jsonl", float(weight)) for number, weight in enumerate(weights))
    return Mixture(sets, np.repeat(np.arange(len(rows)), rows))


@pytest.mark.parametrize(("rows", "weights"), [((4000, 9000), (2, 1)), ((50, 700, 13), (1, 5, 0.5)), ((900,), (3,))])
def test_of_every_thousand_conversations_each_set_has_its_share_within_a_hundredth(rows, weights):
    mixture = _mixture(rows, weights)
    order = ReadingOrder(sum(rows), 7, mixture)
    read = mixture.set_of[np.concatenate([order.of_epoch(epoch) for epoch in range(40)])][:26_000]
    for start in range(0, len(read) - 1000, 137):
        shares = np.bincount(read[start : start + 1000], minlength=len(rows)) / 1000
        assert np.abs(shares - np.array(weights) / sum(weights)).max() <= 0.01


def test_a_set_that_is_read_often_is_read_evenly():
    mixture = _mixture((30, 1000), (1, 1))
    order = ReadingOrder(1030, 3, mixture)
    read = np.concatenate([order.of_epoch(epoch) for epoch in range(3)])
    assert np.ptp(np.bincount(read[read < 30])) <= 1
    assert np.ptp(np.bincount(read[read >= 30] - 30, minlength=1000)) <= 1
    assert not np.array_equal(read[read < 30][:30], read[read < 30][30:60]), "another permutation each time"


def test_a_step_has_of_each_set_what_it_should_up_to_one_and_is_the_same_when_read_alone():
    mixture = _mixture((200, 100, 100), (2, 1, 1))
    rows = [RenderedConversation([number, 1, 2], [False, True, True]) for number in range(400)]

    def batches():
        return ConversationBatches(rows, 8, 4096, 0, order=ReadingOrder(400, 0, mixture))

    def read(batches, step):
        return sorted(int(row[0]) for one in batches.micro_batches(step, 0, 1) for row in one["input_ids"])

    in_order = batches()
    for step in range(130):
        counts = np.bincount(mixture.set_of[read(in_order, step)], minlength=3)
        assert np.abs(counts - [4, 2, 2]).max() <= 1
        if step % 13 == 0:
            assert read(batches(), step) == read(in_order, step), "a resumed run begins in the middle"


def test_what_is_drawn_keeps_the_shares_and_leaves_no_set_without_a_conversation():
    rows = (30_000, 9_000, 5)
    talk = Conversation((Message("user", "You?"), Message("assistant", "I.")), "x:1")
    splits = ConversationSplits([talk] * sum(rows), [talk], [], {}, mixture=_mixture(rows, (2, 1, 1e-9)))
    drawn, again = draw(splits, 2100, seed=0), draw(splits, 2100, seed=0)
    assert drawn.mixture is not None and again.mixture is not None and drawn.drawn is not None
    counts = np.bincount(drawn.mixture.set_of, minlength=3)
    assert len(drawn.training) == counts.sum() and drawn.drawn.of == sum(rows)
    assert np.abs(counts - [1400, 700, 1]).max() <= 1
    assert np.array_equal(drawn.mixture.set_of, again.mixture.set_of)


def _write(path, pairs):
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs), encoding="utf-8")
    return str(path)


def test_twins_stand_in_the_first_set_and_are_counted(tmp_path):
    pairs = list(questions(200))
    first, second = _write(tmp_path / "a.jsonl", pairs[:120]), _write(tmp_path / "b.jsonl", pairs[110:])
    splits = read_conversation_splits([f"{first}:2", second])
    assert splits.left_out[f"conversations of {second} that stand in a set before it too"] == 10
    assert len(splits.training) + len(splits.held_out) == 200
    assert splits.mixture is not None
    of_sets: dict[str, set[str]] = {name: set() for name in (first, second)}
    for one, number in zip(splits.training, splits.mixture.set_of, strict=True):
        of_sets[splits.mixture.sets[number].name].add(one.source.rpartition(":")[0])
    assert of_sets == {first: {first}, second: {second}}
    without = read_conversation_splits([first, second])
    assert without.mixture is None and list(without.training) == list(splits.training)


REFUSED = {
    "the same set twice": (
        ["a.jsonl", "a.jsonl:2"],
        r"a.jsonl and .*a.jsonl hold the same rows \(120 of 120",
    ),
    "a set inside another": (["a.jsonl:1", "part.jsonl"], r"hold the same rows \(50 of 120 and of 50\), expected diff"),
    "below nothing": (["a.jsonl:-1", "b.jsonl"], r"a.jsonl:-1 has the weight -1, expected a finite number above 0"),
    "nothing": (["a.jsonl:0", "b.jsonl"], "has the weight 0, expected a finite number above 0"),
    "no number": (["a.jsonl:nan", "b.jsonl"], "has the weight nan, expected a finite"),
    "text": (
        ["a.jsonl:two", "b.jsonl"],
        r"a.jsonl:two has the weight 'two', expected a number above 0",
    ),
    "the embedded ones": (["embedded", "b.jsonl"], "found 'embedded' beside others, expected it alone"),
    "none": ([], "found no name, expected one or more"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_mixed_is_refused(tmp_path, monkeypatch, data, message):
    pairs = list(questions(200))
    monkeypatch.chdir(tmp_path)
    for name, some in {"a.jsonl": pairs[:120], "b.jsonl": pairs[120:], "part.jsonl": pairs[20:70]}.items():
        _write(tmp_path / name, some)
    with pytest.raises(InputError, match=message):
        read_conversation_splits(data)


def test_a_name_with_a_colon_in_it_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:2").mkdir()
    names = ["odd:2", "odd:2:3", "owner/name:en@train", "owner/name:4", "owner/name:4:0.5"]
    read = [(one.name, one.weight) for one in read_sets(names)]
    assert read == [
        ("odd:2", 1.0),
        ("odd:2", 3.0),
        ("owner/name:en@train", 1.0),
        ("owner/name", 4.0),
        ("owner/name:4", 0.5),
    ]
