"""configs/launch/slurm.sbatch with the real entry behind it; a stand-in starts the tasks that srun would."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from finetune.sft import main
from finetune.supervised.settings import SftSettings
from scratch_models.loop.run_folder import RunFolder
from tests.finetune.entry_runs import SMALL, arguments, run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.house.repository import ROOT

pytestmark = pytest.mark.long

SETTINGS = {**SMALL, "max_steps": 120, "evaluation_steps": 0, "checkpoint_steps": 40, "precision": "fp32"}


@pytest.fixture
def cluster(tmp_path):
    """The environment of a batch script of two tasks, with the stand-in first on PATH."""
    (tmp_path / "bin").mkdir()
    stand_in = f'#!/bin/sh\nexec {sys.executable} {ROOT / "tests/scratch_models/srun.py"} "$@"\n'
    (tmp_path / "bin" / "srun").write_text(stand_in)
    (tmp_path / "bin" / "srun").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "70", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
    slurm |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_LOCALID": "0"}
    ours = {"GRAFT_RUN": str(tmp_path / "run"), "GRAFT_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    return {**os.environ, **slurm, **ours, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def _element(cluster, inputs, log):
    """The script, as an element of the array starts it."""
    settings = {**SETTINGS, "base": inputs / "base", "data": inputs / "data.jsonl"}
    command = ["bash", str(ROOT / "configs/launch/slurm.sbatch"), *arguments(settings)]
    with log.open("a") as file:
        return subprocess.Popen(command, env=cluster, stdout=file, stderr=file)


def _losses(run):
    return [entry["loss_nats"] for entry in RunFolder(run).read_metrics() if "loss_nats" in entry]


def test_an_array_goes_on_until_the_run_is_finished_and_then_does_nothing(cluster, tmp_path):
    save_tiny_base(tmp_path / "base")
    write_questions(tmp_path / "data.jsonl")
    given = {"base": tmp_path / "base", "data": tmp_path / "data.jsonl", "output_dir": tmp_path / "alone"}
    run_here(main, SftSettings, **SETTINGS, **given)
    run, log = tmp_path / "run", tmp_path / "log.txt"
    first = _element(cluster, tmp_path, log)
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or len(_losses(run)) < 10:
        assert first.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    for process in psutil.Process(first.pid).children(
        recursive=True
    ):  # as --signal=TERM@300 does: steps, not the script
        if "srun.py" in " ".join(process.cmdline()):
            process.terminate()
    assert first.wait(timeout=60) == 0 and "is not finished" in log.read_text(), log.read_text()
    assert not (run / "final").exists() and not (run / "finished").exists()
    assert _element(cluster, tmp_path, log).wait(timeout=120) == 0
    assert (run / "finished").exists(), log.read_text()
    assert _losses(run) == pytest.approx(_losses(tmp_path / "alone"), abs=1e-5)
    written = (run / "final").stat().st_mtime
    last = _element(cluster, tmp_path, log)
    assert last.wait(timeout=20) == 0 and "is finished" in log.read_text()
    assert (run / "final").stat().st_mtime == written


def test_tasks_without_srun_are_refused_in_one_line(cluster, tmp_path):
    save_tiny_base(tmp_path / "base")
    write_questions(tmp_path / "data.jsonl")
    settings = {"base": tmp_path / "base", "data": tmp_path / "data.jsonl", "output_dir": tmp_path / "run"}
    command = [sys.executable, str(ROOT / "finetune/sft.py"), *arguments(settings)]
    ended = subprocess.run(command, env=cluster, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.strip().count("\n") == 0
    assert "SLURM_NTASKS: found 2, but srun did not start this process" in ended.stderr
    assert not (tmp_path / "run").exists()
