"""The queue from the terminal: every command of its page, and one line for what cannot be."""

import re
import shlex
import subprocess
import sys

import pytest

from configs import InputError, load_config
from finetune.runs.__main__ import WorkSettings, main
from finetune.runs.job_store import JobStore
from tests.house.repository import ROOT

COMMANDS = re.findall(r"^python -m finetune\.runs (.+)$", (ROOT / "docs/runs.md").read_text("utf-8"), re.MULTILINE)
SAID_INSIDE = re.findall(r"`python -m finetune\.runs (work [^`]+)`", (ROOT / "docs/runs.md").read_text("utf-8"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _do(line):
    main(shlex.split(line))


def test_every_command_of_the_page_does_what_it_says(here, capsys):
    assert len(COMMANDS) >= 10 and len(SAID_INSIDE) == 2
    _do("queue sft --max_steps 3")
    job = JobStore("service").list()[0].id
    for line in COMMANDS:
        words = [job if word == "JOB" else word for word in shlex.split(line)]
        if words[0] != "work":
            main(words)
    for line in SAID_INSIDE:
        load_config(WorkSettings, shlex.split(line)[1:])
    old, *_, again = JobStore("service").list(newest_first=False)
    assert old.state == "cancelled" and again.settings == {"max_steps": 3, "learning_rate": 1e-4}
    said = capsys.readouterr().out
    for part in ("support, first try", f"{job}: is paused", f"{job}: is cancelled", "max_steps: 3"):
        assert part in said


def test_fields_and_files_give_what_they_give_in_the_command_and_a_later_field_takes_the_place_of_its_rival(here):
    (here / "some.yaml").write_text("max_steps: 3\ndata: chats.jsonl\nlora_options:\n  use_rslora: true\n")
    _do("queue sft --config some.yaml --epochs 2 --data a.jsonl b.jsonl --name=mine --lora_options.use_dora")
    _do("requeue " + JobStore("service").list()[0].id[-6:] + " --max_steps 5")
    again, job = JobStore("service").list()
    assert job.settings == {
        "data": ["a.jsonl", "b.jsonl"],
        "epochs": 2.0,
        "lora_options": {"use_rslora": True, "use_dora": True},
        "max_steps": None,
    }
    assert again.settings == {**job.settings, "max_steps": 5, "epochs": None} and again.name == job.name == "mine"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("begin", "begin: no such command, expected one of list, show, cancel"),
        ("list", "service: holds no jobs.sqlite, expected the folder of a service"),
        ("queue", "queue: what? expected one of sft, dpo"),
        ("queue sftt", "kind: found 'sftt', expected one of sft"),
        ("queue sft --epoch 3", "epoch: no such setting, did you mean epochs?"),
        ("queue sft --output_dir here", "output_dir: is set by the queue, leave it out"),
        ("queue extend --corpus field.txt", "--base: required"),
        ("queue sft --max_steps 1 --name 'a\nb'", "name: found 'a\\nb', expected at most 64 printable letters"),
        ("work --devices cpu cpu", "devices: found cpu, cpu, expected one or more, each once"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(here, line, said):
    with pytest.raises(InputError) as error:
        _do(line)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(here.glob("service/jobs/*"))


def test_a_job_that_is_not_there_or_not_the_only_one_is_said(here):
    _do("queue sft --max_steps 3")
    for name in ("ftjob-0", "''"):
        with pytest.raises(InputError, match=r"no such job, `python -m finetune\.runs list` shows all"):
            _do(f"show {name}")


def test_one_state_or_one_device_needs_no_brackets(here, capsys):
    _do("queue sft --max_steps 3")
    for states, said in (("queued", "ftjob-"), ("queued failed", "ftjob-"), ("failed", "No such jobs in service")):
        capsys.readouterr()
        _do(f"list --states {states}")
        assert capsys.readouterr().out.startswith(said)
    assert load_config(WorkSettings, ["--devices", "cpu"]).devices == "cpu"


def test_a_queue_that_is_there_is_listed_in_a_process_that_loads_nothing_heavy(here):
    _do("queue sft --max_steps 3")
    program = (
        "import sys, finetune.runs.supervise, finetune.runs.worker\nfrom finetune.runs.__main__ import main\n"
        "main(['list'])\nprint(*{'torch', 'transformers', 'accelerate', 'peft'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    job, heavy = ended.stdout.splitlines()
    assert job.startswith("ftjob-") and "queued" in job and heavy == ""
