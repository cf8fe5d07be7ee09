"""Runs on two hosts that only a network joins: equal to a run in one process, also after a host was killed."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.sft import main
from finetune.supervised.settings import SftSettings
from scratch_models.loop.run_folder import RunFolder
from tests.finetune.entry_runs import SMALL, arguments, run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.house.repository import ROOT
from tests.reliability.small_runs import weights_of
from tests.reliability.two_hosts import LAUNCHERS, two_hosts

pytestmark = pytest.mark.long

SETTINGS: dict[str, Any] = {**SMALL, "max_steps": 40, "evaluation_steps": 0, "checkpoint_steps": 6, "precision": "fp32"}
SETTINGS |= {"evaluation_conversations": 1, "evaluation_replies": 0, "reply_tokens": 2}
SECONDS_TO_END = 180


@pytest.fixture(scope="module")
def hosts():
    try:
        with two_hosts() as both:
            yield both
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny_base(folder / "base")
    write_questions(folder / "data.jsonl")
    run_here(main, SftSettings, **_settings(folder), output_dir=folder / "alone")
    return folder


def _settings(folder: Path, **more):
    return {**SETTINGS, "base": folder / "base", "data": folder / "data.jsonl", **more}


def _losses(run: Path) -> list[float]:
    return [entry["loss_nats"] for entry in RunFolder(run).read_metrics() if "loss_nats" in entry]


class Runs:
    """One run, started on both hosts as often as it takes."""

    def __init__(self, hosts, launcher: str, inputs: Path, folder: Path) -> None:
        self.hosts, self.launcher, self.inputs, self.run = hosts, launcher, inputs, folder / "run"
        self.logs = [folder / f"host-{host.number}.txt" for host in hosts]

    def start(self, **more):
        settings = _settings(self.inputs, output_dir=self.run, **more)
        command = [str(ROOT / "finetune/sft.py"), *arguments(settings)]
        return [host.start(self.launcher, command, log) for host, log in zip(self.hosts, self.logs, strict=True)]

    def end(self, started):
        """The statuses, None of one that has not ended in time."""
        deadline = time.monotonic() + SECONDS_TO_END
        while any(one.poll() is None for one in started) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [one.poll() for one in started]

    def said(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_host_that_was_killed_comes_back_and_the_losses_are_those_of_one_process(
    hosts, inputs, tmp_path, launcher, killed
):
    runs = Runs(hosts, launcher, inputs, tmp_path)
    started = runs.start()
    deadline = time.monotonic() + SECONDS_TO_END
    while not (runs.run / "metrics.jsonl").exists() or len(_losses(runs.run)) < 10:
        assert time.monotonic() < deadline and all(one.poll() is None for one in started), runs.said()
        time.sleep(0.01)
    hosts[killed].kill()
    assert runs.end(started)[1 - killed] not in (0, None), "the other one ends too"
    assert 10 <= len(_losses(runs.run)) < SETTINGS["max_steps"]
    assert runs.end(runs.start(resume=True)) == [0, 0], runs.said()
    assert _losses(runs.run) == pytest.approx(_losses(inputs / "alone"), abs=1e-5)
    alone, found = weights_of(inputs / "alone"), weights_of(runs.run)
    for name, weight in alone.items():
        torch.testing.assert_close(found[name], weight, atol=1e-4, rtol=0)
