"""The steps of the Dockerfile, done one by one in an empty folder: what they install starts and is found healthy."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.apps.served import free_port
from tests.house.repository import ROOT

OURS = ("/opt/graft", "/data")
"""Folders of the image, which lie below the empty folder here."""
NOT_HERE = ("useradd", "chown")
"""What changes the machine that an image has for itself."""


def instructions(target: str) -> list[tuple[str, str]]:
    """The instructions of a stage and of those that it stands on, lines that go on joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]
    stages: dict[str, list[tuple[str, str]]] = {}
    found: list[tuple[str, str]] = []
    for word, rest in lines:
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            found = stages[name] = list(stages.get(image, []))
        else:
            found.append((word, rest))
    return stages[target]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_stage_has_what_a_container_of_a_service_needs(target):
    words = dict(instructions(target))
    assert words["USER"] == "graft" and words["VOLUME"] == "/data" and words["EXPOSE"] == "8000"
    assert json.loads(words["ENTRYPOINT"]) == ["python", "-m", "apps.service"] and "/readyz" in words["HEALTHCHECK"]
    copied = {rest.split()[-1].rstrip("/") for word, rest in instructions(target) if word == "COPY"}
    assert {"configs", "tokenizer_ext", "scratch_models", "finetune", "apps"} <= copied


def test_the_composition_starts_a_stage_that_there_is():
    [service] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    assert instructions(service["build"]["target"]) and service["ports"] == ["127.0.0.1:8000:8000"]


@pytest.mark.long
def test_what_the_steps_install_starts_and_is_healthy(tmp_path):
    folder, environment = done_in(tmp_path)
    words, port = dict(instructions("cpu")), str(free_port())
    command = [*json.loads(words["ENTRYPOINT"]), "--host", "127.0.0.1", "--port", port]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        check = json.loads(words["HEALTHCHECK"].partition(" CMD ")[2].replace("8000", port))
        end = time.monotonic() + 60
        while subprocess.run(check, env=environment, cwd=folder, capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.5)
    finally:
        process.terminate()
        assert process.wait(40) == 0


def done_in(empty: Path) -> tuple[Path, dict[str, str]]:
    """The folder and the environment that the steps of the stage for a CPU leave, done below an empty folder."""

    def here(text: str) -> str:
        return re.sub(rf"(?<![\w.])({'|'.join(OURS)})\b", lambda found: str(empty / found[1][1:]), text)

    environment, folder = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, empty
    for word, rest in instructions("cpu"):
        if word == "WORKDIR":
            folder = Path(here(rest))
            folder.mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            pairs = (pair.partition("=")[::2] for pair in rest.split())
            environment |= {name: here(value).replace("$PATH", environment["PATH"]) for name, value in pairs}
        elif word == "COPY":
            _copy(rest, folder)
        elif word == "RUN":
            parts = [part for part in here(rest).split(" && ") if not part.startswith(NOT_HERE)]
            subprocess.run(" && ".join(parts) or "true", shell=True, cwd=folder, env=environment, check=True)
    return folder, environment


def _copy(rest: str, folder: Path) -> None:
    *sources, target = [part for part in rest.split() if not part.startswith("--")]
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, folder / target)
