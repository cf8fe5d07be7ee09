"""Runs that nothing happens to: they end, leave no process behind, and take no more memory as they go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scratch_models.checkpoints.checkpoint import find_damage, list_checkpoints
from tests.finetune.entry_runs import SMALL, arguments
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.house.repository import ROOT

RUNS = 25
SCRATCH = {"model": "gpt", "layers": 1, "width": 8, "heads": 2, "block_size": 8, "blocks_per_batch": 4}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
LAUNCH = ("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0", "--config_file")
TWO_PROCESSES = ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    return file


def left_of(folder: Path) -> list[psutil.Process]:
    """Processes that have a folder in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and any(str(folder) in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.mark.long
@pytest.mark.parametrize("number", range(RUNS))
def test_a_run_of_two_processes_with_four_saves_ends_well(number: int, text: Path, tmp_path: Path):
    run = tmp_path / f"run_{number}"
    settings = {**SCRATCH, "max_steps": 12, "checkpoint_steps": 3, "evaluation_steps": 6, "evaluation_blocks": 4}
    given = arguments({**settings, "seed": number, "data": text, "output_dir": run})
    command = [sys.executable, *LAUNCH, str(TWO_PROCESSES), str(ROOT / "scratch_models/train.py"), *given]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    assert "a fault of the program" not in ended.stderr
    assert not left_of(run), "it left a process"
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))
    kept = list_checkpoints(run / "checkpoints")
    assert [path.name for path in kept] == ["step_00000009", "step_00000012"]
    assert all(find_damage(path) is None for path in kept)


def memory_at(steps: tuple[int, ...], entry: str, settings: dict[str, object], run: Path) -> list[int]:
    """Bytes that a run holds after each of some steps."""
    command = [sys.executable, str(ROOT / entry), *arguments({**settings, "output_dir": run})]
    started = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    held, metrics = [], run / "metrics.jsonl"
    try:
        for step in steps:
            while not metrics.exists() or metrics.read_bytes().count(b"\n") < step:
                assert started.poll() is None, "it ended before the step"
                time.sleep(0.002)
            held.append(psutil.Process(started.pid).memory_info().rss)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    return held


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sft", "from scratch"])
def test_memory_does_not_grow_between_step_100_and_1000(kind: str, text: Path, tmp_path: Path):
    often = {"max_steps": 1_100, "checkpoint_steps": 50, "evaluation_steps": 50}
    if kind == "sft":
        save_tiny_base(tmp_path / "base")
        write_questions(tmp_path / "data.jsonl", 200)
        inputs = {"base": tmp_path / "base", "data": tmp_path / "data.jsonl", "conversations_per_step": 4}
        settings = {**SMALL, **often, **inputs, "warmup_steps": 0, "lora_dropout": 0.1, "reply_tokens": 4}
        early, late = memory_at((100, 1000), "finetune/sft.py", settings, tmp_path / "run")
    else:
        settings = {**SCRATCH, **often, "evaluation_blocks": 4, "sample_characters": 4, "data": text}
        early, late = memory_at((100, 1000), "scratch_models/train.py", settings, tmp_path / "run")
    print(f"{kind}: {early / 2**20:.1f} MiB after step 100, {late / 2**20:.1f} MiB after step 1,000")
    assert late <= 1.02 * early + 10_000_000
