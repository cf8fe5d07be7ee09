"""Rows of new tokens trained alone: the text they stand for gets likelier, and no other bit of the model moves."""

import json
import math

import pytest
import torch

from finetune.new_rows import NewRowsSettings, main
from scratch_models.corpus import split_by_position
from tests.finetune.entry_runs import run_here
from tests.finetune.tiny_models import questions, save_tiny_base
from tokenizer_ext.certificate import hash_weights
from tokenizer_ext.extend import extend_vocabulary
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.hf_tokenizer import token_bytes

NEW_TOKENS = 20
BLOCK_SIZE = 24
SETTINGS = {"max_steps": 20, "learning_rate": 0.02, "block_size": BLOCK_SIZE, "blocks_per_batch": 8}
SETTINGS |= {"evaluation_steps": 10, "checkpoint_steps": 10, "weight_decay": 0.5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n\n".join(f"{asked} Zygomorphic! {answer}" for asked, answer in questions(120)))
    return path


@pytest.fixture(scope="module")
def extended(corpus, tmp_path_factory):
    base = save_tiny_base(tmp_path_factory.mktemp("base"))
    texts = corpus.read_text().split("\n\n")
    extended = extend_vocabulary(str(base), corpus=texts, new_tokens=NEW_TOKENS)
    return extended.save(tmp_path_factory.mktemp("extended"))


@pytest.fixture(scope="module")
def run(extended, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    run_here(main, NewRowsSettings, **SETTINGS, base=extended, corpus=corpus, output_dir=folder)
    return folder


def _metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _table(folder):
    return load_model(str(folder)).get_input_embeddings().weight


def test_every_old_weight_is_bit_identical_and_every_new_row_has_moved(extended, run):
    before, after = load_model(str(extended)), load_model(str(run / "final"))
    old = json.loads((extended / "certificate.json").read_text())["base_tokens"]
    assert old == len(_table(extended)) - NEW_TOKENS
    assert hash_weights(before, old) == hash_weights(after, old)
    moved = (_table(extended) != _table(run / "final")).any(dim=1)
    assert moved.tolist() == [False] * old + [True] * NEW_TOKENS


def test_the_result_says_what_stayed_in_hashes_that_anyone_can_compute(extended, run):
    record = json.loads((run / "final" / "certificate.json").read_text())
    assert record["weights_before"] == record["weights_after"]
    assert record["weights_after"] == vars(hash_weights(load_model(str(run / "final")), record["base_tokens"]))
    assert load_tokenizer(str(run / "final")).get_vocab() == load_tokenizer(str(extended)).get_vocab()


def test_the_held_out_loss_falls(run):
    start, *_, last = [entry["held_out_loss_nats"] for entry in _metrics(run) if "held_out_loss_nats" in entry]
    assert last < start


def test_held_out_figures_are_those_of_transformers_on_the_last_tenth_of_the_text(run, corpus):
    _, held_out = split_by_position(corpus.read_text())
    model, tokenizer = load_model(str(run / "final")), load_tokenizer(str(run / "final"))
    ids = torch.tensor(tokenizer.encode(held_out, add_special_tokens=False))
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, BLOCK_SIZE):
            window = ids[start : start + BLOCK_SIZE + 1]
            logits = model(window[None, :-1]).logits[0]
            nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    last = _metrics(run)[-1]
    predicted_bytes = sum(len(token_bytes(tokenizer)[id_]) for id_ in ids[1:].tolist())
    assert last["held_out_loss_nats"] == pytest.approx(nats / (len(ids) - 1), rel=1e-5)
    assert last["held_out_bits_per_byte"] == pytest.approx(nats / math.log(2) / predicted_bytes, rel=1e-5)


def test_a_run_that_is_resumed_ends_with_the_weights_of_an_unbroken_one(extended, corpus, run, tmp_path, monkeypatch):
    settings = {**SETTINGS, "base": extended, "corpus": corpus, "output_dir": tmp_path / "broken"}

    def die(_run, entry):
        if entry["step"] == 14:
            raise RuntimeError("power cut")

    with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="power cut"):
        broken.setattr("scratch_models.run_folder.RunFolder.append_metrics", die)
        run_here(main, NewRowsSettings, **settings)
    run_here(main, NewRowsSettings, **settings, resume=True)
    assert torch.equal(_table(tmp_path / "broken" / "final"), _table(run / "final"))


def test_a_dry_run_shows_what_would_be_done_and_writes_nothing(extended, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_here(main, NewRowsSettings, **SETTINGS, base=extended, corpus=corpus, dry_run=True)
    shown = capsys.readouterr().out
    parameters = sum(one.numel() for one in load_model(str(extended)).parameters())
    assert f"parameters: {parameters:,}, of which {NEW_TOKENS * 32:,} (" in shown
    assert "block_size = 24\n" in shown and "What colour has the apple number 0?" in shown
    assert list(tmp_path.iterdir()) == []
