"""The files of configs/launch: their commands load, their YAML is what the engines publish, the shell does its part."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from configs import load_config
from tests.house.repository import ROOT, entry_schema

FOLDER = ROOT / "configs" / "launch"
SCRIPTS = ("go_on.sh", "slurm.sbatch")
GO_ON = FOLDER / "go_on.sh"
TRAINS = """
import json, os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[sys.argv.index("--output_dir") + 1])
how, ending = sys.argv[1], pathlib.Path(os.environ["GRAFT_ENDING"])
def end(status, stopped):
    ending.write_text(json.dumps({"status": status, "line": "", "stopped": stopped}))
    sys.exit(status)
signal.signal(signal.SIGTERM, lambda *_: end(0, True))
run.mkdir(parents=True, exist_ok=True)
(run / "run.json").touch()
with (run / "starts").open("a") as starts:
    starts.write(" ".join(sys.argv[2:]) + "\\n")
if how == "waits":
    time.sleep(30)
end(3 if how == "fails" else 0, how == "stops")
"""
"""A command with the arguments, signals and endings of an entry."""


def _yaml(name):
    return yaml.safe_load((FOLDER / name).read_text())


def _entry_loads(words):
    entry = next(place for place, word in enumerate(words) if word.endswith("finetune/sft.py"))
    load_config(entry_schema(Path("finetune/sft.py")), [*words[entry + 1 :], "--output_dir", "run", "--resume", "true"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_shell_reads_every_script(name):
    subprocess.run(["bash", "-n", str(FOLDER / name)], check=True)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_the_header_is_the_command(name):
    lines = (FOLDER / name).read_text().splitlines()
    command = next(line for line in lines if not line.startswith("#!"))
    assert re.match(rf"# (bash|sbatch|sky jobs launch|kubectl create)\b.*\bconfigs/launch/{re.escape(name)}\b", command)
    if "--data" in command:
        _entry_loads(["finetune/sft.py", "--data", shlex.split(command)[shlex.split(command).index("--data") + 1]])


def test_the_settings_of_the_sky_task_and_the_train_job_are_the_entrys():
    task = _yaml("skypilot.yaml")
    _entry_loads([task["envs"]["ENTRY"], *shlex.split(task["envs"]["SETTINGS"])])
    subprocess.run(["bash", "-n"], input=task["setup"] + task["run"], text=True, check=True)
    trainer = _yaml("trainjob.yaml")["spec"]["trainer"]
    _entry_loads([*trainer["command"], *trainer["args"]])


def test_the_train_job_runs_what_the_image_holds():
    image = (ROOT / "Dockerfile").read_text()
    command = _yaml("trainjob.yaml")["spec"]["trainer"]["command"]
    for word in command:
        if word.startswith("/opt/graft/"):
            part = Path(word).relative_to("/opt/graft")
            assert (ROOT / part).is_file() and f"COPY --chown=graft {part.parts[0]} {part.parts[0]}" in image
    assert re.search(r"^FROM base AS cuda$", image, re.MULTILINE)


def test_the_train_job_is_what_kubeflow_publishes():
    name = "kubeflow_trainer_api.models.trainer_v1alpha1_train_job"
    api = pytest.importorskip(name, reason="pip install kubeflow-trainer-api to hold it to its types")
    job = api.TrainerV1alpha1TrainJob.from_dict(_yaml("trainjob.yaml"))
    said = json.loads(json.dumps(job.to_dict()))
    assert said["spec"] == _yaml("trainjob.yaml")["spec"], "a key that is not known is dropped"


def test_the_sky_task_is_what_skypilot_publishes():
    schemas = pytest.importorskip("sky.utils.schemas", reason="pip install skypilot to hold it to its schema")
    jsonschema = pytest.importorskip("jsonschema")

    task = _yaml("skypilot.yaml")
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task["resources"], schemas.get_resources_schema())
    for storage in task["file_mounts"].values():
        jsonschema.validate(storage, schemas.get_storage_schema())


@pytest.fixture
def go_on(tmp_path):
    """Starts a run of `TRAINS` by go_on.sh and returns its process."""
    (tmp_path / "trains.py").write_text(TRAINS)

    def start(how):
        command = ["bash", str(GO_ON), str(tmp_path / "run"), sys.executable, str(tmp_path / "trains.py"), how, "--a=b"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start


def _starts(folder):
    return (folder / "run" / "starts").read_text().splitlines()


def test_a_run_is_begun_gone_on_with_and_then_left_alone(go_on, tmp_path):
    assert go_on("fails").wait() == 3
    (tmp_path / "run" / ".lock").write_text("1\na-machine-that-is-gone\n")
    assert go_on("stops").wait() == 75, "it is to be started again"
    assert not (tmp_path / "run" / ".lock").exists()
    assert go_on("ends").wait() == 0
    last = go_on("ends")
    assert last.communicate()[0].strip().endswith("is finished") and last.returncode == 0
    begun = f"--a=b --output_dir {tmp_path / 'run'}"
    assert _starts(tmp_path) == [begun, f"{begun} --resume true", f"{begun} --resume true"]


def test_a_signal_reaches_what_trains(go_on, tmp_path):
    started = go_on("waits")
    while not (tmp_path / "run" / "starts").exists():
        time.sleep(0.02)
    started.terminate()
    assert started.wait(timeout=20) == 75


@pytest.mark.skipif(shutil.which("hf") is None, reason="the command hf of huggingface_hub is not installed")
@pytest.mark.long
def test_the_line_for_hf_jobs_is_one_that_hf_takes():
    text = (ROOT / "docs" / "scaling.md").read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("hf jobs run "))
    command = shlex.split(line)
    _entry_loads(command)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    said = subprocess.run(
        [*command[:3], "--dry-run", *command[3:]], capture_output=True, text=True, env=environment, timeout=120
    )
    assert said.returncode == 0 and "Job not submitted" in said.stdout, said.stdout + said.stderr
