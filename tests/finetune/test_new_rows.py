"""Rows of new tokens trained alone: the text they stand for gets likelier, and no other bit of the model moves."""

import json
import math
from typing import Any

import pytest
import torch

from configs import InputError
from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.new_rows import NewRowsSettings, main
from scratch_models.corpus.blocks import split_by_position
from tests.finetune.entry_runs import broken_at, run_here, run_process
from tests.finetune.extended_models import extend, save_base
from tests.finetune.tiny_models import questions, save_tiny_base, write_questions
from tests.house.repository import ROOT
from tests.without_manifest import forget_manifests
from tokenizer_ext.extension.certificate import hash_weights, read_certificate
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes

TWO_PROCESSES = ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml"
LAUNCH = ("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0", "--config_file")
NEW_TOKENS = 20
BLOCK_SIZE = 24
SETTINGS: dict[str, Any] = {"max_steps": 20, "learning_rate": 0.02, "block_size": BLOCK_SIZE, "blocks_per_batch": 8}
SETTINGS |= {
    "schedule": "constant",
    "warmup_steps": 0,
    "evaluation_steps": 10,
    "checkpoint_steps": 10,
    "weight_decay": 0.5,
}


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


def _measure_held_out(run, corpus):
    """Nats per token and bits per byte of a run's saved model, by transformers alone, on the last tenth of the text."""
    _, held_out = split_by_position(corpus.read_text())
    model, tokenizer = load_model(str(run / "final")), load_tokenizer(str(run / "final"))
    ids = torch.tensor(tokenizer.encode(held_out, add_special_tokens=False))
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, BLOCK_SIZE):
            window = ids[start : start + BLOCK_SIZE + 1]
            logits = model(window[None, :-1]).logits[0]
            nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    predicted_bytes = sum(len(token_bytes(tokenizer)[id_]) for id_ in ids[1:].tolist())
    return nats / (len(ids) - 1), nats / math.log(2) / predicted_bytes


def test_held_out_figures_are_those_of_transformers_on_the_last_tenth_of_the_text(run, corpus):
    last, (nats, bits_per_byte) = _metrics(run)[-1], _measure_held_out(run, corpus)
    assert last["held_out_loss_nats"] == pytest.approx(nats, rel=1e-5)
    assert last["held_out_bits_per_byte"] == pytest.approx(bits_per_byte, rel=1e-5)


def test_the_report_states_the_figure_of_the_weights_that_were_saved(extended, corpus, tmp_path):
    # So high a rate is at its best early.
    settings = {**SETTINGS, "max_steps": 8, "learning_rate": 3.0, "evaluation_steps": 1, "keep_best": True}
    run_here(main, NewRowsSettings, **settings, base=extended, corpus=corpus, output_dir=tmp_path / "run")
    best = min(_metrics(tmp_path / "run")[1:], key=lambda entry: entry["held_out_bits_per_byte"])
    assert 0 < best["step"] < 8
    report = json.loads((tmp_path / "run" / "new_rows.json").read_text())
    assert report["trained_bits_per_byte"] == best["held_out_bits_per_byte"]
    assert report["trained_bits_per_byte"] == pytest.approx(_measure_held_out(tmp_path / "run", corpus)[1], rel=1e-5)


def test_a_run_that_is_resumed_ends_with_the_weights_of_an_unbroken_one(extended, corpus, run, tmp_path):
    settings = {**SETTINGS, "base": extended, "corpus": corpus, "output_dir": tmp_path / "broken"}
    with broken_at(14):
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


CHATS = {
    "max_steps": 4,
    "warmup_steps": 0,
    "conversations_per_step": 8,
    "maximum_tokens": 90,
    "evaluation_conversations": 4,
}


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    """An untied model with new tokens and the control tokens of the chat format."""
    extended = extend(save_base("llama", tmp_path_factory.mktemp("untied")), control_tokens=CONTROL_TOKENS)
    return extended.save(tmp_path_factory.mktemp("untied") / "extended")


@pytest.fixture
def chats(tmp_path):
    return write_questions(tmp_path / "chats.jsonl")


def test_the_certificate_of_the_extension_is_carried_on(extended, run):
    carried = read_certificate(run / "final")
    assert carried is not None and carried.new_tokens == NEW_TOKENS
    assert carried == read_certificate(extended)


def test_a_base_without_a_certificate_gets_one_of_this_training(extended, corpus, tmp_path):
    for path in extended.iterdir():
        if path.name != "certificate.json":
            (tmp_path / "plain").mkdir(exist_ok=True)
            (tmp_path / "plain" / path.name).write_bytes(path.read_bytes())
    forget_manifests(tmp_path / "plain")
    settings = {**SETTINGS, "max_steps": 2, "corpus": corpus, "first_new_id": 320, "output_dir": tmp_path / "run"}
    run_here(main, NewRowsSettings, **settings, base=tmp_path / "plain")
    certificate = read_certificate(tmp_path / "run" / "final")
    assert certificate is not None
    assert (certificate.base_tokens, certificate.new_tokens) == (320, NEW_TOKENS)
    assert certificate.weights_before == certificate.weights_after
    assert certificate.weights_after == hash_weights(load_model(str(tmp_path / "run" / "final")), 320)


def test_what_was_gained_is_noted_and_shown(extended, corpus, tmp_path, capsys):
    run_here(main, NewRowsSettings, **SETTINGS, base=extended, corpus=corpus, output_dir=tmp_path / "run")
    report = json.loads((tmp_path / "run" / "new_rows.json").read_text())
    measured = [
        entry["held_out_bits_per_byte"] for entry in _metrics(tmp_path / "run") if "held_out_loss_nats" in entry
    ]
    assert (report["start_bits_per_byte"], report["trained_bits_per_byte"]) == (measured[0], measured[-1])
    assert report["trained_bits_per_byte"] < report["base_bits_per_byte"]
    assert report["new_tokens"] == NEW_TOKENS and report["never_seen"] <= report["rarely_seen"] <= NEW_TOKENS
    assert report["emission"]["first_choices"] <= report["emission"]["targets"]
    shown = capsys.readouterr().out
    for name in ("base_bits_per_byte", "start_bits_per_byte", "trained_bits_per_byte"):
        assert f"{report[name]:.4f}" in shown
    assert "new tokens in its own continuations: greedy " in shown


def test_rows_that_the_text_seldom_holds_are_counted(extended, corpus, tmp_path):
    settings = {**SETTINGS, "max_steps": 3, "base": extended, "corpus": corpus, "output_dir": tmp_path / "run"}
    run_here(main, NewRowsSettings, **settings)
    tokenizer, training = load_tokenizer(str(extended)), split_by_position(corpus.read_text())[0]
    ids = tokenizer.encode(training)
    times = [ids.count(id_) * 3 * 8 * BLOCK_SIZE / len(ids) for id_ in range(320, 320 + NEW_TOKENS)]
    report = json.loads((tmp_path / "run" / "new_rows.json").read_text())
    assert report["rarely_seen"] == sum(one < 100 for one in times)
    assert report["never_seen"] == sum(one == 0 for one in times) > 0


def test_conversations_train_the_rows_of_control_tokens_too(untied, chats, tmp_path, capsys):
    run_here(main, NewRowsSettings, **CHATS, base=untied, data=chats, output_dir=tmp_path / "run")
    before, after = load_model(str(untied)), load_model(str(tmp_path / "run" / "final"))
    assert hash_weights(before, 320) == hash_weights(after, 320)
    tokenizer = load_tokenizer(str(untied))
    rows = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|end|>"])
    for table in ("get_input_embeddings", "get_output_embeddings"):
        old, new = (getattr(model, table)().weight[rows] for model in (before, after))
        assert (old != new).any(dim=1).all()
    first, *_, last = [entry for entry in _metrics(tmp_path / "run") if "held_out_loss_nats" in entry]
    assert last["held_out_loss_nats"] < first["held_out_loss_nats"]
    assert "the base with its own tokenizer  – (it lacks control tokens of this text)" in capsys.readouterr().out


def test_conversations_to_hold_out_are_given_and_only_last_replies_learned(untied, tmp_path, capsys):
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
    ]
    for name, count in (("data", 3), ("held", 1)):
        lines = [{"messages": [{"role": "user", "content": f"{name} {n}"}, *talk[1:]]} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {**CHATS, "base": untied, "data": tmp_path / "data.jsonl", "held_out": tmp_path / "held.jsonl"}
    run_here(main, NewRowsSettings, **settings, learn="last", dry_run=True, output_dir=tmp_path / "run")
    shown = capsys.readouterr().out
    assert "3 conversations to learn from" in shown and "1 held-out conversations for evaluations" in shown
    assert "<|assistant|>Hello.<|end|>" in shown and "<|assistant|>[[2<|end|>]]" in shown


def test_text_has_nothing_to_hold_out_by_name_and_no_replies():
    with pytest.raises(InputError, match=r"held_out: found a\.jsonl, expected none without data"):
        NewRowsSettings(held_out="a.jsonl")
    with pytest.raises(InputError, match="learn: found last, expected all without data"):
        NewRowsSettings(learn="last")


def test_input_and_output_rows_have_rates_of_their_own(untied, chats, tmp_path):
    settings = {**CHATS, "max_steps": 1, "base": untied, "data": chats, "learning_rate": 1e-3}
    run_here(main, NewRowsSettings, **settings, output_learning_rate=1e-2, output_dir=tmp_path / "run")
    before, after = load_model(str(untied)), load_model(str(tmp_path / "run" / "final"))
    moved = [
        (getattr(after, table)().weight - getattr(before, table)().weight).abs().max().item()
        for table in ("get_input_embeddings", "get_output_embeddings")
    ]
    assert moved == pytest.approx([1e-3, 1e-2], rel=0.01)  # Adam's first step is as long as its rate


def test_a_probe_decides_the_start_is_recorded_and_not_made_again(untied, corpus, tmp_path, capsys):
    settings = {**SETTINGS, "max_steps": 2, "checkpoint_steps": 1, "evaluation_blocks": 4, "corpus": corpus}
    settings |= {"base": untied, "output_dir": tmp_path / "run", "probe": True, "probe_steps": 2, "probe_seeds": 2}
    run_here(main, NewRowsSettings, **settings)
    shown = capsys.readouterr().out
    probe = json.loads((tmp_path / "run" / "run.json").read_text())["probe"]
    assert [one["start"] for one in probe["tried"]] == [
        *("zero", "normal", "mean", "subtoken_mean", "asymmetric", "distilled")
    ]
    after = {one["start"]: sum(one["after"]) for one in probe["tried"]}
    assert probe["best"] == min(after, key=after.__getitem__)
    taken = next(line for line in shown.splitlines() if line.endswith("<- taken"))
    assert taken.startswith(probe["best"])
    before = {one["start"]: one["before"][0] for one in probe["tried"]}
    assert _metrics(tmp_path / "run")[0]["held_out_bits_per_byte"] == pytest.approx(before[probe["best"]], rel=1e-6)
    table = _table(tmp_path / "run" / "final")
    run_here(main, NewRowsSettings, **settings, resume=True)
    assert "<- taken" not in capsys.readouterr().out
    assert torch.equal(_table(tmp_path / "run" / "final"), table)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"output_learning_rate": 0.1, "block_size": BLOCK_SIZE},
            "output_learning_rate: found 0.1, but the model is tied",
        ),
        ({"output_learning_rate": -0.1}, "output_learning_rate: found -0.1"),
        ({"data": "chats.jsonl"}, "corpus and data: found"),
        ({"data": "chats.jsonl", "corpus": None}, "no control token <|system|>"),
        ({"evaluation_blocks": 0}, "evaluation_blocks: found 0, expected at least 1"),
    ],
)
def test_settings_that_do_not_fit_the_base_are_refused(
    extended, corpus, chats, tmp_path, monkeypatch, capsys, changes, said
):
    monkeypatch.chdir(chats.parent)
    settings = {name: value for name, value in {"corpus": corpus, **changes}.items() if value is not None}
    with pytest.raises(SystemExit) as end:
        run_here(main, NewRowsSettings, base=extended, **settings)
    printed = capsys.readouterr().err
    assert end.value.code == 2 and said in printed
    assert [path.name for path in chats.parent.iterdir()] == ["chats.jsonl"]


def test_old_weights_that_are_not_those_of_the_certificate_are_refused(extended, corpus, tmp_path, capsys):
    model, folder = load_model(str(extended)), tmp_path / "touched"
    load_tokenizer(str(extended)).save_pretrained(folder)
    (folder / "certificate.json").write_bytes((extended / "certificate.json").read_bytes())
    forget_manifests(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[5, 0] += 1e-3
    model.save_pretrained(folder)
    with pytest.raises(SystemExit):
        run_here(main, NewRowsSettings, **SETTINGS, base=folder, corpus=corpus, output_dir=tmp_path / "run")
    assert "its old weights are not those of its certificate.json" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_two_processes_train_the_rows_that_one_does(untied, corpus, tmp_path):
    settings = {**SETTINGS, "max_steps": 4, "base": untied, "corpus": corpus, "learning_rate": 1e-3}
    one = run_process("finetune/new_rows.py", tmp_path, output_dir=tmp_path / "one", **settings)
    launch = (*LAUNCH, str(TWO_PROCESSES))
    two = run_process("finetune/new_rows.py", tmp_path, launch=launch, output_dir=tmp_path / "two", **settings)
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert two.stdout.count("Saved: ") == 1
    assert json.loads((tmp_path / "two" / "run.json").read_text())["world_size"] == 2
    torch.testing.assert_close(
        _table(tmp_path / "two" / "final"), _table(tmp_path / "one" / "final"), atol=1e-4, rtol=0
    )
