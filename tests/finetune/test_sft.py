"""Fine-tuning from end to end, on a tiny base and a hundred conversations."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from finetune.engine.engine import recorded_precision
from finetune.evaluation.scoring import Scores
from finetune.export.saved_model import load_assistant
from finetune.sft import main
from finetune.supervised.settings import SftSettings
from scratch_models.checkpoints.checkpoint import find_damage, list_checkpoints
from scratch_models.loop.run_folder import RunFolder
from tests.finetune.entry_runs import SMALL, arguments, run_here, run_process
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.house.repository import ROOT
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.huggingface.hf_model import load_model

TWO_PROCESSES = ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml"
LAUNCH = ("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0", "--config_file")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("data") / "data.jsonl")


@pytest.fixture(scope="module")
def finished(base, data, tmp_path_factory):
    """The folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    run_here(main, SftSettings, **SMALL, base=base, data=data, output_dir=folder)
    return folder


def _metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _steps(run):
    """The lines of optimizer steps; the line before them, of step 0, says what the model was like untrained."""
    start, *steps = _metrics(run)
    assert start["step"] == 0 and "held_out_loss_nats" in start and "loss_nats" not in start
    return steps


def _held_out(run):
    return [entry["held_out_loss_nats"] for entry in _metrics(run) if "held_out_loss_nats" in entry]


def _weights(run):
    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted((run / "final").rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def _equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_leaves_the_files_of_the_architecture_and_no_others(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        *("checkpoints", "final", "metrics.jsonl", "report.html", "report.json", "run.json")
    ]
    assert sorted(path.name for path in (finished / "final").iterdir()) == ["README.md", "adapter", "base"]
    assert [find_damage(checkpoint) for checkpoint in list_checkpoints(finished / "checkpoints")] == [None, None]


def test_the_held_out_loss_falls(finished):
    start, *_, last = _held_out(finished)
    assert last < start


def test_metrics_say_what_every_step_did(finished):
    entries = _steps(finished)
    assert [entry["step"] for entry in entries] == list(range(1, 13))
    named = {
        "loss_nats",
        "learning_rate",
        "gradient_norm",
        "tokens",
        "supervised_tokens",
        "tokens_per_second",
        "seconds",
    }
    for entry in entries:
        assert named <= entry.keys() and 0 < entry["supervised_tokens"] < entry["tokens"]
    rates = [entry["learning_rate"] for entry in entries]
    assert rates[:2] == pytest.approx([0.005, 0.01]) and rates[2:] == sorted(rates[2:], reverse=True)
    evaluated = [entry for entry in entries if "held_out_loss_nats" in entry]
    assert [len(entry["sample_replies"]) for entry in evaluated] == [2, 2]
    assert all(0 <= entry["stop_rate"] * 5 <= 5 for entry in evaluated)  # of five questions


def test_the_record_of_a_run_holds_settings_versions_and_hashes(finished, base, data):
    record = json.loads((finished / "run.json").read_text())
    assert record["settings"]["lora_rank"] == 4 and record["settings"]["tokens_per_micro_batch"] == 4096
    assert {"torch", "transformers", "peft"} <= record["versions"].keys() and record["world_size"] == 1
    assert all(len(record[f"{what}_sha256"]) == 64 for what in ("data", "base", "tokenizer"))
    assert record["extension"]["control_tokens"] == 4


def test_the_record_says_how_the_run_computed(finished):
    record = json.loads((finished / "run.json").read_text())
    assert record["engine"]["precision"] in ("fp32", "bf16") and record["engine"]["probe"]["fp32_gflops"] > 0
    assert record["engine"]["exchanged_layers"] and record["packed"] and record["packed_attention"]
    report = json.loads((finished / "report.json").read_text())
    assert report["facts"]["computed"].startswith(f"computes in {record['engine']['precision']}, chosen by measuring")
    assert report["facts"]["steps"] == "12"


def test_a_resumed_run_goes_on_in_the_precision_that_it_was_started_in(tmp_path):
    (tmp_path / "run.json").write_text('{"settings": {}, "engine": {"precision": "bf16"}}')
    assert recorded_precision(SftSettings(resume=True), RunFolder(tmp_path)) == "bf16"
    assert recorded_precision(SftSettings(), RunFolder(tmp_path)) is None
    (tmp_path / "run.json").write_text('{"settings": {}}')  # of a run from before there was an engine
    assert recorded_precision(SftSettings(resume=True), RunFolder(tmp_path)) is None


def test_options_of_the_adapter_packing_and_accumulation_reach_the_run_and_the_merge_is_proven(base, data, tmp_path):
    settings = {**SMALL, "max_steps": 2, "base": base, "data": data, "output_dir": tmp_path / "run", "merge": True}
    options = {"lora_options.use_rslora": "true", "lora_options.init_lora_weights": "pissa", "target_modules": "c_attn"}
    run_here(main, SftSettings, **settings, **options, packing="always", accumulation_steps=4)
    run = tmp_path / "run"
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["lora_options"] == {"use_rslora": True, "init_lora_weights": "pissa"} and record["packed"]
    adapter = load_file(run / "final" / "adapter" / "adapter_model.safetensors")
    assert adapter and all("c_attn" in name for name in adapter)
    assert json.loads((run / "merged" / "receipt.json").read_text())["largest_difference"] <= 1e-4
    merged, tokenizer = load_assistant(run / "merged")
    assert merged.get_input_embeddings().num_embeddings == len(tokenizer)
    run_here(main, SftSettings, **settings, **options, packing="always", accumulation_steps=4, resume=True)
    assert json.loads((run / "merged" / "receipt.json").read_text())["largest_difference"] <= 1e-4


@pytest.mark.long
def test_packed_conversations_train_the_same_as_those_in_rows_of_their_own(finished, base, data, tmp_path):
    settings = {**SMALL, "max_steps": 12, "base": base, "data": data, "output_dir": tmp_path / "alone"}
    run_here(main, SftSettings, **settings, packing="never")
    packed, alone = _steps(finished), _steps(tmp_path / "alone")
    assert [entry["supervised_tokens"] for entry in packed] == [entry["supervised_tokens"] for entry in alone]
    assert [entry["loss_nats"] for entry in packed] == pytest.approx([entry["loss_nats"] for entry in alone], rel=2e-3)


def test_what_the_calculator_gives_is_not_learned(base, tmp_path):
    records = [
        {"question": f"{n} plus 2?", "answer": f"{n}+2=<<{n}+2={n + 2}>>{n + 2} #### {n + 2}"} for n in range(60)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    settings = {**SMALL, "max_steps": 1, "base": base, "data": tmp_path / "sums.jsonl"}
    run_here(main, SftSettings, **settings, output_dir=tmp_path / "with", calculator=True)
    run_here(main, SftSettings, **settings, output_dir=tmp_path / "without")
    (first,), (other,) = _steps(tmp_path / "with"), _steps(tmp_path / "without")
    assert first["supervised_tokens"] < other["supervised_tokens"]


def test_an_example_is_inspected_as_a_page_and_nothing_else_is_written(base, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_here(main, SftSettings, **SMALL, base=base, data=data, inspect=3)
    shown = capsys.readouterr().out
    assert "Example 3 with what is learned of it: runs/inspect-3.html" in shown
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "runs" / "inspect-3.html"]
    page = (tmp_path / "runs" / "inspect-3.html").read_text()
    assert "Example 3 of 95: what is learned" in page and 'class="learned' in page


def test_the_report_compares_both_on_the_held_out_questions(finished):
    report = json.loads((finished / "report.json").read_text())
    base, assistant = Scores(**report["base"]), Scores(**report["assistant"])
    assert base.conversations == assistant.conversations == len(report["samples"]) == 5
    assert assistant.bits_per_byte is not None and base.bits_per_byte is not None
    assert assistant.bits_per_byte < base.bits_per_byte
    assert "left out: nothing" in report["facts"]["read"]


def test_the_card_opens_the_assistant_as_it_says(finished, monkeypatch, capsys):
    card = (finished / "final" / "README.md").read_text()
    monkeypatch.chdir(finished / "final")
    exec(card.split("```python\n")[1].split("```")[0], {})  # it prints a reply
    assert "\x1b" not in capsys.readouterr().err


def test_the_weights_of_the_base_are_in_the_result_bit_by_bit(finished, base):
    original, _ = load_model(str(base)), None
    tokens = original.config.vocab_size
    assert hash_weights(load_model(str(finished / "final" / "base")), tokens) == hash_weights(original, tokens)


KILLED = """
import os, signal, sys
from configs import run_entry
from finetune.sft import SftSettings, main
from scratch_models.loop.run_folder import RunFolder
append = RunFolder.append_metrics
def append_and_die(run, entry):
    append(run, entry)
    if entry["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.append_metrics = append_and_die
run_entry(main, SftSettings)
"""


@pytest.mark.long
def test_a_run_that_was_killed_and_resumed_ends_with_the_weights_of_an_unbroken_one(base, data, tmp_path):
    unbroken_settings = {**SMALL, "base": base, "data": data, "output_dir": tmp_path / "unbroken", "lora_dropout": 0.2}
    run_here(main, SftSettings, **unbroken_settings)
    settings = {**unbroken_settings, "output_dir": tmp_path / "killed"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments(settings)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "final").exists()
    run_here(main, SftSettings, **settings, resume=True)
    assert _equal(_weights(tmp_path / "killed"), _weights(tmp_path / "unbroken"))
    same = ("step", "loss_nats", "learning_rate", "gradient_norm", "tokens", "held_out_loss_nats", "sample_replies")
    for resumed, unbroken in zip(_metrics(tmp_path / "killed"), _metrics(tmp_path / "unbroken"), strict=True):
        assert {name: resumed.get(name) for name in same} == {name: unbroken.get(name) for name in same}
    again = _weights(tmp_path / "killed")
    run_here(main, SftSettings, **settings, resume=True)  # a finished run is resumed into itself
    assert _equal(_weights(tmp_path / "killed"), again)


@pytest.mark.long
def test_small_micro_batches_train_the_same_as_large_ones(finished, base, data, tmp_path):
    settings = {**SMALL, "base": base, "data": data, "output_dir": tmp_path / "small"}
    run_here(main, SftSettings, **settings, tokens_per_micro_batch=100)
    small, large = _steps(tmp_path / "small"), _steps(finished)
    assert [entry["supervised_tokens"] for entry in small] == [entry["supervised_tokens"] for entry in large]
    assert [entry["loss_nats"] for entry in small] == pytest.approx([entry["loss_nats"] for entry in large], rel=1e-4)


def test_full_fine_tuning_learns_and_leaves_one_model(base, data, tmp_path):
    settings = {**SMALL, "base": base, "data": data, "output_dir": tmp_path / "full", "method": "full"}
    run_here(main, SftSettings, **settings)
    start, *_, last = _held_out(tmp_path / "full")
    assert last < start
    model, tokenizer = load_assistant(tmp_path / "full")
    assert "config.json" in {path.name for path in (tmp_path / "full" / "final").iterdir()}
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)


def test_tokens_are_learned_from_a_corpus_file(base, data, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"Zygomorphic colours of {n} window panes" for n in range(30)))
    settings = {**SMALL, "max_steps": 2, "base": base, "data": data, "output_dir": tmp_path / "run"}
    run_here(main, SftSettings, **settings, corpus=corpus, new_tokens=12)
    _, tokenizer = load_assistant(tmp_path / "run")
    before = len(load_model(str(base)).get_input_embeddings().weight)
    assert len(tokenizer) == before + 12 + 4
    assert json.loads((tmp_path / "run" / "run.json").read_text())["extension"]["new_tokens"] == 12


def test_a_dry_run_shows_what_would_be_done_and_writes_nothing(base, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_here(main, SftSettings, **SMALL, base=base, data=data, dry_run=True)
    shown = capsys.readouterr().out
    assert "lora_rank = 4\n" in shown and "seed = 0\n" in shown
    lora = 4 * 2 * ((32 + 96) + (32 + 32) + 2 * (32 + 128))  # rank x blocks x (inputs + outputs of each layer)
    assert f"of which {lora + 4 * 32:,} (" in shown
    assert (
        "95 conversations to learn from, packed end to end; an epoch is 6 steps and " in shown
        and "% of them supervised" in shown
    )
    example = shown[shown.index("first example") :]
    assert example.count("[[") == 1 and "<|assistant|>[[It is " in example and ".<|end|>]]" in example
    parts = ["reading and extending", "asking the base", "training", "evaluations", "asking the assistant", "in all"]
    assert [part for part in parts if f"\n  {part} " in shown] == parts and "GB in each process\n" in shown
    assert list(tmp_path.iterdir()) == []


def test_conversations_that_are_too_long_are_counted(base, data, tmp_path, capsys):
    long = {"question": "Long?", "answer": "no " * 60}
    (tmp_path / "data.jsonl").write_text(data.read_text() + json.dumps(long) + "\n")
    run_here(
        main, SftSettings, **{**SMALL, "maximum_tokens": 60}, base=base, data=tmp_path / "data.jsonl", dry_run=True
    )
    assert "1 conversations of more than 60 tokens" in capsys.readouterr().out


@pytest.mark.long
def test_two_processes_leave_one_set_of_files_and_learn_what_one_process_learns(finished, base, data, tmp_path):
    settings = {**SMALL, "base": base, "data": data, "output_dir": tmp_path / "run"}
    ended = run_process("finetune/sft.py", tmp_path, launch=(*LAUNCH, str(TWO_PROCESSES)), **settings)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Saved: ") == ended.stdout.count("Asking the base") == 1
    run = tmp_path / "run"
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in finished.iterdir())
    assert json.loads((run / "run.json").read_text())["world_size"] == 2
    together, alone = _steps(run), _steps(finished)
    assert [entry["step"] for entry in together] == list(range(1, 13))
    assert [entry["supervised_tokens"] for entry in together] == [entry["supervised_tokens"] for entry in alone]
    assert [entry["loss_nats"] for entry in together] == pytest.approx([e["loss_nats"] for e in alone], rel=1e-4)
    start, *_, last = _held_out(run)
    assert last < start
