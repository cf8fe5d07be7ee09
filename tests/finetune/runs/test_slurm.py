"""A job is handed to Slurm, watched, found again, and asked to end there; commands that stand in for Slurm's do it.

The stand-ins keep to what their manuals say: `sbatch --parsable` prints the number and takes `--output`, `--chdir` and
`--job-name`; `squeue --name --states --format=%i` prints the numbers of jobs that wait or run; `scancel --signal`
signals the steps of a job, without it ends the job.
"""

import os
import signal
import sys

import pytest

from finetune.runs.job_store import JobStore
from finetune.runs.worker import Worker, find_devices
from tests.finetune.runs.carried_out import attempts_begun, wait_for, wait_until_ended

STAND_IN = """#!{python}
import os, pathlib, signal, subprocess, sys
place, (name, *arguments) = pathlib.Path({place!r}), [os.path.basename(sys.argv[0]), *sys.argv[1:]]
options = dict(one.removeprefix("--").partition("=")[::2] for one in arguments if one.startswith("--"))
rest = [one for one in arguments if not one.startswith("--")]
def lives(number):
    try:
        return pathlib.Path(f"/proc/{{number}}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
if (place / "down").exists():
    sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
if name == "sbatch":
    if (place / "refuses").exists():
        sys.exit("sbatch: error: Batch job submission failed: Invalid partition name specified")
    with open(options["output"], "a") as log:
        job = subprocess.Popen(["sh", rest[0]], stdout=log, stderr=log, cwd=options["chdir"], start_new_session=True)
    (place / options["job-name"]).write_text(str(job.pid))
    print(f"{{job.pid}};cluster")
elif name == "squeue":
    found = place / options["name"]
    if found.exists() and lives(found.read_text()) and options.get("states", "RUNNING") == "RUNNING":
        print(found.read_text())
elif name == "scancel":
    os.kill(int(rest[0]), signal.SIGTERM if options.get("signal") == "TERM" else signal.SIGKILL)
else:
    os.execvp(rest[0], arguments)
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder where the stand-ins keep what runs; they are first on PATH."""
    place, programs = tmp_path / "cluster", tmp_path / "bin"
    place.mkdir()
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel", "srun"):
        (programs / name).write_text(STAND_IN.format(python=sys.executable, place=str(place)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return place


@pytest.mark.long
def test_jobs_run_in_slurm_are_found_again_and_cancelled_there_and_a_refusal_is_its_words(slurm, tmp_path):
    (tmp_path / "chats.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    store = JobStore(tmp_path / "service")
    jobs = [store.add("inspect_data", {"data": str(tmp_path / "chats.jsonl")}) for _ in range(2)]
    worker = Worker(store, devices=find_devices("slurm", 2), launcher="slurm")
    worker.start()
    numbers = [int(wait_for((slurm / f"{job.id}-1").read_text, "handed over")) for job in jobs if _handed(slurm, job)]
    for number in numbers:
        os.kill(number, signal.SIGSTOP)
    os.kill(wait_for(lambda: store.get(jobs[0].id).pid, "supervised"), signal.SIGKILL)
    store.cancel(jobs[1].id)
    wait_for(lambda: store.get(jobs[0].id).attempt == 2 and store.get(jobs[0].id).pid, "supervised again")
    (slurm / "down").touch()  # while Slurm does not answer, what it has is taken to run
    os.kill(numbers[0], signal.SIGCONT)
    wait_for(lambda: not _lives(numbers[0]), "ended")
    assert store.get(jobs[0].id).state == "running"
    (slurm / "down").unlink()
    os.kill(numbers[1], signal.SIGCONT)
    assert [job.state for job in wait_until_ended(store, *jobs)] == ["succeeded", "cancelled"]
    assert [attempts_begun(job) for job in jobs] == [1, 1]
    (slurm / "refuses").touch()
    (refused,) = wait_until_ended(store, store.requeue(jobs[0].id))
    worker.stop()
    assert refused.error == (
        "sbatch: ended with status 1: sbatch: error: Batch job submission failed: Invalid partition name specified"
    )


def _handed(slurm, job):
    return wait_for((slurm / f"{job.id}-1").exists, "handed over")


def _lives(number):
    try:
        with open(f"/proc/{number}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
