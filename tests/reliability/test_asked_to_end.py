"""A run that is asked to end saves one step, says how to go on, and then is the run that nobody interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from finetune.supervised.monitor import HeldOutMonitor
from scratch_models.checkpoints import checkpoint
from scratch_models.from_scratch import HeldOutEvaluation
from scratch_models.loop import resuming
from scratch_models.loop.run_folder import RunFolder
from tests.house.repository import ROOT
from tests.reliability.small_runs import RUNS, metrics_of, weights_of, write_inputs

EVALUATIONS = {"from scratch": HeldOutEvaluation, "sft": HeldOutMonitor}
SECONDS = 25
"""A launcher kills after 30."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def unbroken(inputs: Path) -> Path:
    for kind, run in RUNS.items():
        run(inputs, inputs / f"unbroken {kind}")
    return inputs


def ask_during(where: str, kind: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Has this process get a signal: in the seventh step, the evaluation after the sixth, or the save of the fifth."""
    owner: Any
    due: Callable[..., bool]
    if where == "step":
        owner, name, due = RunFolder, "append_metrics", lambda _run, entry: entry["step"] == 7
    elif where == "evaluation":
        owner, name, due = EVALUATIONS[kind], "__call__", lambda _monitor, step: step == 6
    else:
        owner, name, due = resuming, "save_checkpoint", lambda saved, _folder: saved.step == 5
    found = getattr(owner, name)

    def asked(*arguments, **named):
        if due(*arguments):
            signal.raise_signal(number)
        return found(*arguments, **named)

    monkeypatch.setattr(owner, name, asked)


@pytest.mark.parametrize(
    ("kind", "where", "number", "saved"),
    [
        pytest.param("from scratch", "step", signal.SIGTERM, 7, marks=pytest.mark.long),
        pytest.param("from scratch", "evaluation", signal.SIGINT, 6, marks=pytest.mark.long),
        ("from scratch", "save", signal.SIGTERM, 5),
        ("sft", "evaluation", signal.SIGTERM, 6),
    ],
)
def test_a_run_that_is_asked_to_end_goes_on_as_the_unbroken_one(unbroken, tmp_path, capsys, kind, where, number, saved):
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as ended:
        ask_during(where, kind, patched, number)
        RUNS[kind](unbroken, tmp_path / "run")
    said = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 0
    resumes = f"go on with the same command and --resume --output_dir {tmp_path / 'run'}"
    assert said == f"ended by {number.name} after step {saved} of 12, which is saved: {resumes}"
    RUNS[kind](unbroken, tmp_path / "run", resume=True)
    whole = unbroken / f"unbroken {kind}"
    assert metrics_of(tmp_path / "run") == metrics_of(whole)
    left, right = weights_of(tmp_path / "run"), weights_of(whole)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again_in_its_folder(unbroken, tmp_path):
    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit, match="1"):
        found = RunFolder.append_metrics

        def append(run, entry):
            found(run, entry)
            if entry["step"] == 4:
                raise Killed

        patched.setattr(RunFolder, "append_metrics", append)
        RUNS["from scratch"](unbroken, tmp_path / "run")
    RUNS["from scratch"](unbroken, tmp_path / "run", resume=True)
    assert metrics_of(tmp_path / "run") == metrics_of(unbroken / "unbroken from scratch")


def start(output_dir: Path, processes: int, **settings: object) -> subprocess.Popen:
    """A launched run that would go on for minutes."""
    file = "one_cpu.yaml" if processes == 1 else "two_cpu_processes.yaml"
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"]
    shape = "--model gpt --layers 1 --width 8 --heads 2 --block_size 8 --blocks_per_batch 4 --data tinyshakespeare"
    length = {"max_steps": 100_000, "checkpoint_steps": 0, "evaluation_steps": 0, "output_dir": output_dir, **settings}
    pairs = [part for name, value in length.items() for part in (f"--{name}", str(value))]
    (output_dir.parent / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    shape = shape.replace("tinyshakespeare", str(output_dir.parent / "text.txt"))
    command = [sys.executable, *launch, "--config_file", str(ROOT / "configs" / "accelerate" / file)]
    command += [str(ROOT / "scratch_models" / "train.py"), *shape.split(), *pairs]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (output_dir / "metrics.jsonl").exists():
        assert started.poll() is None and time.monotonic() < deadline, started.stderr and started.stderr.read()
        time.sleep(0.05)
    return started


def workers_of(launcher: subprocess.Popen) -> list[psutil.Process]:
    """The processes that train, those of the smallest rank first."""
    found = psutil.Process(launcher.pid).children(recursive=True)
    return [one for one in found if "accelerate.commands.accelerate_cli" not in one.cmdline()]


CASES = [
    (processes, who, number)
    for processes in (1, 2)
    for who, numbers in {
        "one worker": (signal.SIGTERM, signal.SIGINT),
        "all workers": (signal.SIGTERM, signal.SIGINT),
        "launcher": (signal.SIGTERM, signal.SIGINT, signal.SIGKILL),
        "group": (signal.SIGTERM, signal.SIGINT),
    }.items()
    for number in numbers
]


def send(who: str, number: int, launcher: subprocess.Popen, workers: list[psutil.Process]) -> None:
    """The signal to whom it is meant for; a group is what Ctrl-C in a terminal reaches."""
    if who == "launcher":
        launcher.send_signal(number)
    elif who == "group":
        os.killpg(launcher.pid, number)
    else:
        for worker in workers[-1:] if who == "one worker" else workers:
            worker.send_signal(number)


def end_and_check(tmp_path: Path, processes: int, who: str, number: int) -> None:
    launcher = start(tmp_path / "run", processes)
    workers = workers_of(launcher)
    assert len(workers) == processes
    try:
        send(who, number, launcher, workers)
        # A launcher that only waits, as accelerate's for one process does, dies of Ctrl-C alone and leaves its worker.
        is_gone, alive = psutil.wait_procs(workers, timeout=SECONDS)
    finally:
        for worker in workers:
            if worker.is_running():
                worker.kill()
        launcher.kill()
    said = launcher.communicate()[1]
    assert not alive, f"{len(is_gone)} of {processes} ended: {said}"
    last = metrics_of(tmp_path / "run")[-1]["step"]
    assert checkpoint.find_damage(tmp_path / "run" / "checkpoints" / f"step_{last:08d}") is None
    assert f"after step {last} of 100000, which is saved: go on" in said


@pytest.mark.long
def test_a_signal_to_one_of_two_processes_ends_both_at_one_step(tmp_path):
    end_and_check(tmp_path, 2, "one worker", signal.SIGTERM)


@pytest.mark.long
@pytest.mark.parametrize(("processes", "who", "number"), CASES)
def test_whoever_gets_the_signal_all_end_with_one_checkpoint(tmp_path, processes, who, number):
    end_and_check(tmp_path, processes, who, number)


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_evaluation_of_minutes_does_not_hold_up_the_end(tmp_path, processes, number):
    launcher = start(tmp_path / "run", processes, evaluation_steps=50, evaluation_blocks=10_000_000)
    workers = workers_of(launcher)
    while len(metrics_of(tmp_path / "run")) < 49:
        time.sleep(0.05)
    time.sleep(1)
    for worker in workers:
        worker.send_signal(number)
    _, alive = psutil.wait_procs(workers, timeout=SECONDS)
    said = launcher.communicate(timeout=SECONDS)[1]
    assert not alive and "which is saved" in said


@pytest.mark.long
def test_a_second_ctrl_c_ends_at_once(tmp_path):
    launcher = start(tmp_path / "run", 1, width=512, layers=8, blocks_per_batch=512, block_size=64)
    (worker,) = workers_of(launcher)
    worker.send_signal(signal.SIGINT)
    time.sleep(2.5)
    worker.send_signal(signal.SIGINT)
    worker.wait(timeout=3)
    assert "exit status 130" in launcher.communicate()[1]
