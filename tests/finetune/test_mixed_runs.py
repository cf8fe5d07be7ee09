"""Runs on several sets mixed by weight: killed and gone on with, or started from Python, they end in the same bits."""

import json
import signal
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from configs import run_entry
from finetune import finetune, sft
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import SMALL, arguments
from tests.finetune.tiny_models import questions, save_tiny_base
from tests.house.repository import ROOT

SETTINGS = {**SMALL, "precision": "fp32", "evaluation_steps": 4, "evaluation_replies": 2}
KILLED_AT = 7
"""Between the checkpoints of the steps 4 and 8."""
KILLED = f"""
import os, signal
from configs import run_entry
from finetune.sft import main
from finetune.supervised.settings import SftSettings
from scratch_models.loop.run_folder import RunFolder

append = RunFolder.append_metrics

def append_until_killed(run, entry):
    append(run, entry)
    if entry["step"] == {KILLED_AT}:
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.append_metrics = append_until_killed
run_entry(main, SftSettings)
"""
TIMES = {"seconds", "tokens_per_second"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base and two sets, one of which is a third of the other and shall be read half as often."""
    folder = tmp_path_factory.mktemp("place")
    save_tiny_base(folder / "base", initializer_range=0.2)
    return folder


def _write_sets(folder, number):
    records = [{"question": asked, "answer": answer} for asked, answer in questions(number)]
    first = folder / f"a{number}.jsonl"
    first.write_text("".join(json.dumps(record) + "\n" for record in records[: number * 3 // 4]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records[number * 3 // 4 :]), folder / f"b{number}.parquet")
    return [f"{first}:2", f"{folder / f'b{number}.parquet'}:1"]


def _command(place, sets, run, **more):
    """The sets stand last, as on a command line of several words."""
    settings = {**SETTINGS, **more, "base": place / "base", "output_dir": place / run}
    return [*arguments(settings), "--data", *sets]


def _run(place, sets, run, monkeypatch, **more):
    monkeypatch.setattr(sys, "argv", ["sft.py", *_command(place, sets, run, **more)])
    run_entry(sft.main, SftSettings)


def _kill(place, sets, run):
    killed = subprocess.run([sys.executable, "-c", KILLED, *_command(place, sets, run)], capture_output=True, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [one["step"] for one in _metrics(place / run)][-1] == KILLED_AT


def _metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _without_times(run):
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in _metrics(run)]


def _weights(run):
    files = sorted((run / "final").rglob("*.safetensors"))
    return {f"{path.parent.name}/{name}": one for path in files for name, one in load_file(path).items()}


def _expect_equal(left, right):
    one, other = _weights(left), _weights(right)
    assert one and one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert _without_times(left) == _without_times(right)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(120, id="all rendered", marks=pytest.mark.long),
        pytest.param(26_000, id="some drawn", marks=pytest.mark.long),
    ],
)
def test_a_mixed_run_that_was_killed_ends_with_the_same_bits_as_the_unbroken_one(place, monkeypatch, capsys, number):
    sets = _write_sets(place, number)
    _run(place, sets, f"unbroken{number}", monkeypatch)
    said = capsys.readouterr().out
    assert "(weight 2)" in said and ("drawn from" in said) == (number > 20_000)
    _kill(place, sets, f"killed{number}")
    _run(place, sets, f"killed{number}", monkeypatch, resume=True)
    _expect_equal(place / f"killed{number}", place / f"unbroken{number}")


@pytest.mark.long
def test_a_mixed_run_from_python_is_that_of_the_command(place, monkeypatch):
    sets = _write_sets(place, 120)
    _run(place, sets, "command", monkeypatch)
    finetune(place / "base", sets, **SETTINGS, output_dir=place / "python")
    _expect_equal(place / "python", place / "command")
    other = [sets[0].replace(":2", ":1"), sets[1].replace(":1", ":2")]
    _run(place, other, "other", monkeypatch)
    one, another = _weights(place / "command"), _weights(place / "other")
    assert not all(torch.equal(one[name], another[name]) for name in one), "the weights of the sets change what is read"
