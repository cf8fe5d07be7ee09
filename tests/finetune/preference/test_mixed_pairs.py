"""Several sets of pairs, mixed by weight in every step, and read once where they share a pair."""

import json

import numpy as np
import pytest

from configs import InputError
from finetune.chat.graft_format import GraftFormat
from finetune.preference.dataset import prepare_preferences
from finetune.preference.pair_splits import read_preference_splits
from tests.finetune.tiny_models import questions


def _write(path, asked):
    records = ({"prompt": one, "chosen": f"{one} Yes.", "rejected": "No."} for one, _ in asked)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_every_step_has_of_each_set_its_share_and_a_twin_is_read_once(tmp_path, chat_tokenizer):
    asked = list(questions(300))
    first, second = _write(tmp_path / "a.jsonl", asked[:210]), _write(tmp_path / "b.jsonl", asked[200:])
    splits = read_preference_splits([f"{first}:1", f"{second}:3"])
    assert splits.left_out[f"pairs of {second} that stand in a set before it too"] == 10
    dataset = prepare_preferences(
        GraftFormat(chat_tokenizer),
        splits,
        maximum_tokens=400,
        held_out_pairs=8,
        pairs_per_step=8,
        tokens_per_micro_batch=4096,
        seed=0,
    )
    mixture = dataset.batches.order.mixture
    assert mixture is not None
    set_of = mixture.set_of
    assert [one.source.startswith(second) for one in splits.training] == set_of.astype(bool).tolist()
    for epoch in range(3):
        for step in np.split(dataset.batches.order.of_epoch(epoch)[:240], 30):
            assert abs(set_of[step].sum() - 6) <= 1
    assert "(weight 3)" in dataset.describe() and "times an epoch" in dataset.describe()
    read = dataset.batches.read_in(3)
    assert read == sorted(set(dataset.batches.order.of_epoch(0)[:24].tolist()))


def test_two_sets_of_the_same_pairs_are_refused(tmp_path):
    path = _write(tmp_path / "a.jsonl", questions(40))
    with pytest.raises(InputError, match="hold the same rows"):
        read_preference_splits([path, path])
