"""Every command in the table of the README runs as it stands there, one after the other, in a folder of its own.

Hub names are replaced by a tiny model on the disk, and settings are appended that make each command short.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from configs import load_config
from tests.apps.served import ADDRESS, SECONDS_TO_START, free_port, is_made
from tests.finetune.pair_records import write_pairs
from tests.finetune.tiny_models import questions, save_tiny_base, write_questions
from tests.house.repository import ROOT, entry_schema
from tests.house.short_commands import ON_THE_HUB, SHORT

TABLE = re.findall(r"^\| [^|]+ \| (`[^|]+`) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
COMMANDS = [command for cell in TABLE for command in re.findall(r"`([^`]+)`", cell)]


def _entry(command: str) -> Path:
    """The entry file that a command starts."""
    named = re.search(r"-m ([\w.]+)|(\w+/\w+\.py)", command)
    assert named, command
    return Path(named[2] or named[1].replace(".", "/") + ".py")


def _settings(command: str) -> list[str]:
    """What the command hands to its entry."""
    return shlex.split(re.split(r"-m [\w.]+|\w+/\w+\.py", command, maxsplit=1)[1])


def _shortened(command: str) -> list[str]:
    words = shlex.split(command.replace(ON_THE_HUB, "tiny")) + shlex.split(SHORT.get(str(_entry(command)), ""))
    return [*words, *(("--base", "tiny") if "configs/sft_gpt2.yaml" in command else ())]


def _environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the commands name: the project's own files, conversations, pairs and the text of a field."""
    folder: Path = tmp_path_factory.mktemp("project")
    for name in ("configs", "finetune", "scratch_models"):
        (folder / name).symlink_to(ROOT / name)
    save_tiny_base(folder / "tiny")
    write_questions(folder / "chats.jsonl")
    write_questions(folder / "prose.jsonl", 50)
    write_pairs(folder / "pairs.jsonl")
    text = "\n\n".join(f"ROMEO: {asked} {said} Twice {said} and once more {asked}" for asked, said in questions(300))
    (folder / "prompt.txt").write_text("You answer questions about a library in one short sentence.", encoding="utf-8")
    (folder / "field.txt").write_text(text, encoding="utf-8")
    return folder


def test_the_table_has_its_rows():
    assert len(TABLE) == len(COMMANDS) >= 18, "a row of the table holds one command and nothing else"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_settings_of_a_command_are_read(command: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    load_config(entry_schema(_entry(command)), _settings(command))


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table_runs(command: str, place: Path):
    if "apps.studio" in command:
        assert "<html" in _page_of([*_shortened(command), "--port", str(free_port())], place)
        return
    ended = subprocess.run(_shortened(command), capture_output=True, text=True, cwd=place, env=_environment())
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _page_of(command: list[str], place: Path) -> str:
    """The page that a server shows, which is started for it and ended."""
    output = place / "output"
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=place, stdout=file, stderr=subprocess.STDOUT, env=_environment())
    end = time.monotonic() + SECONDS_TO_START
    try:
        while not (found := ADDRESS.search(output.read_text())) or not is_made(found[1]):
            assert process.poll() is None and time.monotonic() < end, output.read_text()
            time.sleep(0.1)
        with urlopen(found[1]) as answer:
            return str(answer.read().decode())
    finally:
        process.terminate()
        process.wait()
