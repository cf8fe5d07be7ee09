"""Weights of replies in whole runs: they change what is learned and not what is measured."""

import json

import pytest
import torch
from safetensors.torch import load_file

from finetune import finetune, sft
from finetune.conversations.messages import Conversation, Message
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import questions, save_tiny_base

SETTINGS = {**SMALL, "max_steps": 3, "evaluation_steps": 3, "precision": "fp32"}


def _talks(weight):
    """Each second reply counts `weight`."""
    return [
        Conversation((Message("user", asked), Message("assistant", answer, weight=weight if number % 2 else 1.0)), "x")
        for number, (asked, answer) in enumerate(questions(100))
    ]


def _trained(folder):
    return {str(file.relative_to(folder)): load_file(file) for file in sorted(folder.glob("final/**/*.safetensors"))}


def _equal(left, right):
    one, other = _trained(left), _trained(right)
    assert one.keys() == other.keys() and one
    return all(torch.equal(one[file][name], other[file][name]) for file in one for name in one[file])


def _metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run in which each second reply counts half, the same from the command, and one in which all count 1."""
    folder = tmp_path_factory.mktemp("runs")
    base = save_tiny_base(folder / "base", initializer_range=0.2)
    finetune(base, _talks(0.5), **SETTINGS, output_dir=folder / "python")
    finetune(base, _talks(1.0), **SETTINGS, output_dir=folder / "plain")
    records = [
        {"messages": [{"role": one.role, "content": one.content, "weight": one.weight} for one in talk.messages]}
        for talk in _talks(0.5)
    ]
    for record in records:
        del record["messages"][0]["weight"]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    run_here(sft.main, SftSettings, **SETTINGS, base=base, data=data, output_dir=folder / "command")
    return folder


@pytest.mark.long
def test_a_weighted_run_ends_with_equal_weights_from_python_and_from_the_command(runs):
    assert _equal(runs / "python", runs / "command")
    hashes = {json.loads((runs / name / "run.json").read_text())["data_sha256"] for name in ("python", "command")}
    assert len(hashes) == 1
    assert json.loads((runs / "plain" / "run.json").read_text())["data_sha256"] not in hashes


@pytest.mark.long
def test_what_counts_half_is_learned_otherwise_and_measured_the_same(runs):
    assert not _equal(runs / "python", runs / "plain")
    weighted, plain = _metrics(runs / "python"), _metrics(runs / "plain")
    assert weighted[0]["held_out_loss_nats"] == plain[0]["held_out_loss_nats"], "of the same model, before a step"
    assert weighted[1]["loss_nats"] != plain[1]["loss_nats"]
    assert [one.get("supervised_tokens") for one in weighted] == [one.get("supervised_tokens") for one in plain]
