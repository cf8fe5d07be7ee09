"""Fine-tuning goes on from a run, and two runs on one base share it as a set of adapters."""

import json

import pytest
import torch

from finetune.adapter_set import AdapterSetSettings
from finetune.adapter_set import main as gather
from finetune.export.adapter_set import load_adapters
from finetune.export.saved_model import find_base, load_assistant, load_start
from finetune.sft import main
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.said_lines import without_progress
from tokenizer_ext.extension.certificate import hash_weights, read_certificate, weights_sha256
from tokenizer_ext.huggingface.hf_model import load_model

FEW = {**SMALL, "max_steps": 4, "evaluation_steps": 4, "checkpoint_steps": 0}
IDS = torch.arange(40).view(2, 20)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run on a small base, one that goes on from it, and one on its base."""
    folder = tmp_path_factory.mktemp("runs")
    base, sums = save_tiny_base(folder / "raw"), folder / "sums"
    for number in (40, 60):
        write_questions(folder / f"{number}.jsonl", number)
    few = {**FEW, "data": folder / "60.jsonl"}
    run_here(main, SftSettings, **few, base=base, output_dir=sums)
    run_here(main, SftSettings, **{**few, "data": folder / "40.jsonl"}, base=sums, output_dir=folder / "further")
    run_here(main, SftSettings, **few, base=sums / "final/base", new_tokens=0, seed=3, output_dir=folder / "prose")
    run_here(main, SftSettings, **few, base=base, seed=5, output_dir=folder / "alone")
    return folder


def test_a_run_that_starts_from_a_run_learns_on_top_of_its_assistant(runs):
    start, _ = load_start(runs / "sums")
    certificate = read_certificate(runs / "further/final/base")
    assert certificate is not None and certificate.holds
    assert certificate.new_tokens == certificate.control_tokens == 0, "the chat's tokens are there already"
    assert certificate.weights_before == hash_weights(start, certificate.base_tokens)
    record = json.loads((runs / "further/run.json").read_text())
    assert record["base_sha256"] == weights_sha256(certificate.weights_before)
    assert find_base(runs / "further") == str(runs / "sums")
    lines = [json.loads(line) for line in (runs / "sums/metrics.jsonl").read_text().splitlines()]
    first = json.loads((runs / "further/metrics.jsonl").read_text().splitlines()[0])
    assert first["held_out_loss_nats"] < lines[0]["held_out_loss_nats"], "it knows what the first run learned"


def test_record_adapter_and_card_name_the_folder_and_the_hash_that_were_trained(runs):
    # Public report of unsloth (8113): another base than the chosen one was tuned.
    final, base = runs / "prose/final", runs / "sums/final/base"
    record, config, proof = (
        json.loads(path.read_text())
        for path in (runs / "prose/run.json", final / "adapter_config.json", final / "base.json")
    )
    certificate = read_certificate(base)
    assert certificate is not None
    tokens = certificate.base_tokens + certificate.control_tokens
    sha256 = weights_sha256(hash_weights(load_model(str(base)), tokens))
    assert record["base_sha256"] == proof["weights_sha256"] == sha256 and proof["tokens"] == tokens
    assert record["settings"]["base"] == config["base_model_name_or_path"] == proof["given"] == str(base)
    card = (final / "README.md").read_text()
    assert f"- base: sha256 `{sha256}`" in card and "an assistant made from base" in card
    assert str(base) not in card


def test_the_card_of_an_adapter_opens_it_as_it_says(runs, monkeypatch, capsys):
    card = (runs / "prose/final/README.md").read_text()
    assert "library_name: peft" in card and "AutoPeftModelForCausalLM" in card
    monkeypatch.chdir(runs / "prose/final")
    exec(card.split("```python\n")[1].split("```")[0], {})  # it prints a reply
    assert "\x1b" not in capsys.readouterr().err


def test_two_runs_on_one_base_become_one_set_of_adapters(runs, capsys):
    tuned = {name: runs / name for name in ("sums", "prose")}
    arguments = {f"tuned.{name}": run for name, run in tuned.items()}
    run_here(gather, AdapterSetSettings, **arguments, output_dir=runs / "both")
    assert "one base and 2 adapters: sums, prose" in capsys.readouterr().out
    together, _ = load_adapters({name: runs / "both" / name for name in tuned})
    for name, run in tuned.items():
        together.set_adapter(name)
        expected = load_assistant(run)[0](IDS).logits
        torch.testing.assert_close(together(IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_two_runs_that_each_trained_rows_are_refused_with_the_command_that_works(runs, capsys):
    arguments = {"tuned.sums": runs / "sums", "tuned.alone": runs / "alone"}
    with pytest.raises(SystemExit):
        run_here(gather, AdapterSetSettings, **arguments, output_dir=runs / "none")
    said = capsys.readouterr().err
    assert (
        without_progress(said).count("\n") == 1
        and "alone: its base is not that of sums (model.safetensors differs)" in said
    )
    assert f"--base {runs / 'sums/final/base'} --new_tokens 0" in said
    assert not (runs / "none").exists()
