"""The probe tries every start on the same text, and takes the one that is best after training, never before."""

import pytest
import torch

from finetune.engine.engine import Engine
from finetune.rows import start_probe as row_probe
from finetune.rows.base_reading import read_parts
from finetune.rows.dataset import Texts, text_dataset
from finetune.rows.start_probe import DISTILLED, STARTS, Probe, Probed, Prober
from finetune.rows.training import make_row_optimizer, make_start, new_rows_of
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.seeds import mixed_seed
from tests.finetune.extended_models import TEXTS, extend, save_base
from tokenizer_ext.embeddings.row_init import start_tables
from tokenizer_ext.embeddings.tables import separate_new_rows
from tokenizer_ext.huggingface.hf_tokenizer import character_counts


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def extended(request, tmp_path_factory):
    return extend(save_base(request.param, tmp_path_factory.mktemp(request.param)))


def _prober(extended, seeds=2, **settings):
    separated = extended.model
    if not hasattr(separated.get_input_embeddings(), "new_rows"):
        separate_new_rows(separated, extended.first_new_id, len(extended.merges))
    parts = read_parts(extended.tokenizer, extended.first_new_id)
    texts = Texts([" ".join(TEXTS[20:])], [" ".join(TEXTS[:20])], "")
    dataset = text_dataset(texts, extended.tokenizer, block_size=24, blocks_per_batch=4, evaluation_blocks=8)
    characters = character_counts(extended.tokenizer)
    return Prober(
        model=separated,
        engine=Engine(separated, "fp32", None),
        dataset=dataset,
        parts=parts,
        make_start=lambda start, seed: make_start(separated, list(parts.values()), start, seed, characters),
        make_optimizer=lambda: make_row_optimizer(separated, 0.02, None, 0.0),
        settings=LoopSettings(max_steps=500, learning_rate=0.02, schedule="cosine", **settings),
        accelerator=make_accelerator("fp32"),
        steps=4,
        seeds=seeds,
        distillation_steps=2,
    )


@pytest.fixture(scope="module")
def probed(extended):
    return _prober(extended).run()


def test_every_start_is_tried_with_every_seed(probed):
    assert [one.start for one in probed.tried] == [*STARTS, DISTILLED]
    assert all(len(one.before) == len(one.after) == 2 for one in probed.tried)
    assert all(min(*one.seconds_to_make, *one.seconds_to_train) > 0 for one in probed.tried)
    by_start = {one.start: one for one in probed.tried}
    assert len(set(by_start["mean"].before)) == 1 and len(set(by_start["mean"].after)) == 2
    assert len(set(by_start["normal"].before)) == 2
    assert all(one.after[seed] != one.before[seed] for one in probed.tried for seed in range(2))


def test_what_one_start_shows_does_not_depend_on_those_before_it(extended, probed, monkeypatch):
    by_start = {one.start: one for one in probed.tried}
    monkeypatch.setattr(row_probe, "STARTS", ("subtoken_mean",))
    monkeypatch.setattr(row_probe, "DISTILLED_FROM", "subtoken_mean")
    alone = _prober(extended).run().tried[0]
    assert alone == by_start["subtoken_mean"]


def test_the_model_is_left_with_the_best_start_and_not_with_what_the_probe_trained(extended, monkeypatch):
    monkeypatch.setattr(row_probe, "STARTS", ("zero", "normal", "mean"))
    monkeypatch.setattr(Probe, "best", "normal")
    prober = _prober(extended)
    prober.run()
    of_head, expected = new_rows_of(prober.model)[1], prober.make_start("normal", mixed_seed(0, 0))
    assert torch.equal(prober.model.get_input_embeddings().new_rows, expected[0])
    assert all(torch.equal(rows, expected[1]) for rows in of_head) and len(of_head) == (expected[1] is not None)


@pytest.mark.parametrize("setting", [{"keep_best": True}, {"early_stopping_evaluations": 1}])
def test_a_run_that_compares_its_evaluations_probes_as_any_other(extended, probed, setting, monkeypatch):
    by_start = {one.start: one for one in probed.tried}
    monkeypatch.setattr(row_probe, "STARTS", ())  # the distilled start trains twice: as it is made, and as it is tried
    assert _prober(extended, **setting).run().tried == (by_start[DISTILLED],)


def test_step_0_never_decides():
    probe = Probe((Probed("zero", (1.0, 1.0), (3.0, 3.2)), Probed("mean", (2.0, 2.0), (2.9, 3.1))), steps=50)
    assert probe.best == "mean"
    assert probe.facts()["best"] == "mean" and probe.facts()["steps"] == 50


def test_the_table_shows_means_and_spreads_and_marks_what_is_taken():
    mean = Probed("mean", (2.0, 2.0), (2.9, 3.1), seconds_to_make=(1.0, 2.0), seconds_to_train=(9.0, 10.0))
    probe = Probe((Probed("zero", (1.0, 1.0), (3.0, 3.2)), mean), steps=50)
    head, first, second = probe.table().split("\n")
    assert " ".join(head.split()) == "held-out bits per byte, 2 seeds after 0 spread after 50 spread made in trained"
    assert " ".join(first.split()) == "mean 2.0000 0.0000 3.0000 0.2000 1.5 s 9.5 s <- taken"
    assert second.split() == ["zero", "1.0000", "0.0000", "3.1000", "0.2000"]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_rows_that_are_separate_start_as_those_of_plain_tables(architecture, tmp_path):
    extended = extend(save_base(architecture, tmp_path))
    parts = read_parts(extended.tokenizer, extended.first_new_id)
    characters, sub_tokens = character_counts(extended.tokenizer), list(parts.values())
    plain = {
        start: start_tables(
            extended.model, extended.first_new_id, sub_tokens, start, seed=3, character_counts=characters
        )
        for start in STARTS
    }
    separate_new_rows(extended.model, extended.first_new_id, len(extended.merges))
    for start, (input_rows, output_rows) in plain.items():
        separate = make_start(extended.model, sub_tokens, start, 3, characters)
        assert torch.equal(input_rows, separate[0])
        assert (output_rows is None) == (separate[1] is None) == (architecture == "gpt2")
        if output_rows is not None and separate[1] is not None:
            assert torch.equal(output_rows, separate[1])
