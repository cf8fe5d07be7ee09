"""Continued pretraining: a model reads on, what it read before is kept in sight, and what is left opens anywhere."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.chat.packing import pad
from finetune.pretrain import main
from finetune.pretraining import stages
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.settings import PretrainSettings
from finetune.pretraining.text_blocks import spread_blocks
from finetune.pretraining.text_sources import name_texts
from finetune.pretraining.token_files import encode_sources
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.entry_runs import broken_at, run_here
from tests.finetune.extended_models import extend
from tests.finetune.tiny_models import questions, save_tiny_base
from tests.real_tokenizers import real_model
from tests.reliability.small_runs import weights_of
from tokenizer_ext.extension.certificate import read_certificate
from tokenizer_ext.huggingface.hf_model import load_tokenizer

SETTINGS: dict[str, Any] = {
    "max_steps": 12,
    "warmup_steps": 0,
    "learning_rate": 0.02,
    "block_size": 32,
    "blocks_per_batch": 4,
    "evaluation_steps": 6,
    "evaluation_blocks": 8,
    "checkpoint_steps": 4,
    "sample_tokens": 6,
}
DOMAIN, GENERAL = "domain.jsonl", "general.txt"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A base, documents to read, and a text to read again."""
    folder = tmp_path_factory.mktemp("place")
    save_tiny_base(folder / "base")
    texts = [f"{asked} {answer} Note {n * n}, then {n * 7}." for n, (asked, answer) in enumerate(questions(90))]
    (folder / DOMAIN).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / GENERAL).write_text("\n\n".join(f"The {n}th window is {n % 7} feet wide." for n in range(300)))
    return folder


def _run(place: Path, output_dir: Path, **settings: Any) -> Path:
    inputs = {"base": place / "base", "corpus": f"[{place / DOMAIN}:1, {place / GENERAL}:0.5]"}
    run_here(main, PretrainSettings, **{**SETTINGS, **inputs, **settings}, output_dir=output_dir)
    return output_dir


@pytest.fixture(scope="module")
def run(place, tmp_path_factory) -> Path:
    return _run(place, tmp_path_factory.mktemp("runs") / "unbroken", keep_best=True, best_by=GENERAL)


def _metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _bits_per_byte(model: Any, place: Path, name: str) -> float:
    """Of the held-out blocks, document by document, by transformers alone."""
    tokenizer = load_tokenizer(str(place / "base"))
    named = name_texts([str(place / DOMAIN), str(place / GENERAL)], [], None)
    ends = DocumentEnds.of(tokenizer)
    text = next(one for one in encode_sources(named.all, tokenizer, ends) if one.name.endswith(name))
    blocks, text_bytes = spread_blocks(text, ends, SETTINGS["block_size"], SETTINGS["evaluation_blocks"])
    nats = 0.0
    for row in (row for block in blocks for row in block):
        alone = pad([row])
        with torch.no_grad():
            logits = model(alone["input_ids"]).logits[0].float()
        nats += F.cross_entropy(logits, alone["targets"][0], ignore_index=IGNORED_TARGET, reduction="sum").item()
    return nats / math.log(2) / text_bytes


def test_what_is_learned_gets_likelier_and_each_text_is_watched_apart(run, place):
    first, *_, last = (entry for entry in _metrics(run) if "held_out_loss_nats" in entry)
    for name in (DOMAIN, GENERAL):
        measure = f"held_out_bits_per_byte/{place / name}"
        assert last[measure] < first[measure]
    report = json.loads((run / "report.json").read_text())
    assert [one["share"] for one in report["texts"]] == pytest.approx([2 / 3, 1 / 3])
    assert len(report["samples"]) == 4 and (run / "report.html").stat().st_size > 10_000


def test_the_best_weights_are_those_of_the_text_that_was_named(run, place):
    measured = [entry for entry in _metrics(run) if "held_out_bits_per_byte" in entry]
    for entry in measured:
        assert entry["held_out_bits_per_byte"] == entry[f"held_out_bits_per_byte/{place / GENERAL}"]
    best = min(measured[1:], key=lambda entry: entry["held_out_bits_per_byte"])
    report = json.loads((run / "report.json").read_text())
    assert report["texts"][1]["bits_per_byte_after"] == best["held_out_bits_per_byte"]


def test_plain_peft_opens_the_result_and_measures_what_the_report_says(run, place):
    model = AutoPeftModelForCausalLM.from_pretrained(run / "final").eval()
    before = AutoModelForCausalLM.from_pretrained(place / "base").eval()
    for figures, name in zip(json.loads((run / "report.json").read_text())["texts"], (DOMAIN, GENERAL), strict=True):
        assert figures["bits_per_byte_after"] == pytest.approx(_bits_per_byte(model, place, name), rel=1e-5)
        assert figures["bits_per_byte_before"] == pytest.approx(_bits_per_byte(before, place, name), rel=1e-5)
    card = (run / "final" / "README.md").read_text()
    assert "conversational" not in card and "apply_chat_template" not in card and str(place) not in card
    assert AutoTokenizer.from_pretrained(run / "final").get_vocab() == load_tokenizer(str(place / "base")).get_vocab()


def test_a_run_that_was_killed_ends_with_the_weights_of_the_unbroken_one(run, place, tmp_path):
    settings = {"keep_best": True, "best_by": GENERAL}
    with broken_at(10):
        _run(place, tmp_path / "broken", **settings)
    _run(place, tmp_path / "broken", **settings, resume=True)
    left, right = weights_of(tmp_path / "broken"), weights_of(run)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_other_text_than_that_of_the_run_is_refused_when_it_goes_on(place, tmp_path, capsys):
    (tmp_path / "text.txt").write_text((place / GENERAL).read_text())
    settings = {"corpus": tmp_path / "text.txt", "max_steps": 2}
    _run(place, tmp_path / "run", **settings)
    (tmp_path / "text.txt").write_text((place / GENERAL).read_text() + "One more line.")
    with pytest.raises(SystemExit) as ended:
        _run(place, tmp_path / "run", **settings, resume=True)
    assert ended.value.code == 2 and "data is not what the run was started with" in capsys.readouterr().err


def test_a_run_goes_on_from_a_run_and_every_weight_may_train(run, place, tmp_path):
    once_more = _run(place, tmp_path / "more", base=run, method="full", max_steps=2, learning_rate=1e-3, lora_rank=16)
    start = _metrics(once_more)[0][f"held_out_bits_per_byte/{place / DOMAIN}"]
    reported = json.loads((run / "report.json").read_text())["texts"][0]["bits_per_byte_after"]
    assert start == pytest.approx(reported, rel=1e-3)  # what an adapter is merged into is rounded as the base is stored
    model = AutoModelForCausalLM.from_pretrained(once_more / "final").eval()
    after = json.loads((once_more / "report.json").read_text())["texts"][0]["bits_per_byte_after"]
    assert after == pytest.approx(_bits_per_byte(model, place, DOMAIN), rel=1e-5)


def test_an_extended_model_reads_on_in_its_own_tokens_and_merged_it_has_its_certificate(place, tmp_path):
    extended = extend(place / "base").save(tmp_path / "extended")
    run = _run(place, tmp_path / "run", base=extended, max_steps=2, merge=True)
    merged = AutoTokenizer.from_pretrained(run / "merged")
    assert merged.get_vocab() == load_tokenizer(str(extended)).get_vocab()
    certificate = read_certificate(run / "merged")
    assert certificate is not None and certificate.all_weights_trained and certificate.new_tokens == 20
    assert "conversational" not in (run / "merged" / "README.md").read_text()


def test_a_dry_run_shows_what_would_be_done_and_writes_nothing(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run(place, tmp_path / "run", dry_run=True)
    shown = capsys.readouterr().out
    assert "block_size = 32\n" in shown and "(66.7% of the tokens): 81 documents, and 9 held out" in shown
    assert "estimated by doing a little of it:" in shown and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"block_size": 1}, "block_size: found 1, expected at least 2"),
        ({"block_size": 97}, "block_size: found 97, expected at most the model's 96 positions"),
        ({"evaluation_blocks": 0}, "evaluation_blocks: found 0, expected at least 1"),
        ({"best_by": "other.txt"}, "best_by: found 'other.txt', expected one of the texts of the run"),
        ({"method": "full", "merge": True}, "merge: with --method full there is no adapter"),
        ({"epochs": 2}, "max_steps and epochs: found both"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line_before_a_weight_is_read(
    place, tmp_path, capsys, settings, said, monkeypatch
):
    monkeypatch.setattr(stages, "load_start", lambda *_: pytest.fail("the weights were read first"))
    with pytest.raises(SystemExit) as ended:
        _run(place, tmp_path / "run", **settings)
    assert ended.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("family", ["llama2", "gemma3", "qwen3", "llama3_1"])
def test_a_model_with_a_real_tokenizer_reads_on_whatever_its_vocabulary_is(family, place, tmp_path):
    base = real_model(family, tmp_path / "base")
    run = _run(place, tmp_path / "run", base=base, max_steps=2, checkpoint_steps=0)
    tokenizer = AutoTokenizer.from_pretrained(run / "final")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(base).chat_template
    AutoPeftModelForCausalLM.from_pretrained(run / "final")
