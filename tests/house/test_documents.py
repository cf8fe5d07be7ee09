"""Every path and command that README, CONTRIBUTING and docs name exists."""

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

from tests.house.repository import LAYERS, ROOT, entry_files, entry_schema

README = ROOT / "README.md"
DOCUMENTS = [
    path for path in (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()
]

# What a run writes, and what lies beside the repository, is not in it.
ELSEWHERE = re.compile(r"^(runs|checkpoints|final|base|adapter|\.venv|\.\.)/|^(https?:|/|~)")
SUFFIXES = "py|yaml|toml|md|tiktoken|cfg"


def _files() -> list[str]:
    """Every file of the repository that git knows or could know, with slashes."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("no git repository: the files cannot be listed")
    return listed.stdout.splitlines()


def _commands(text: str) -> list[str]:
    """The commands in the fenced blocks and between single backticks, prompt removed, continued lines joined."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line.removeprefix("$ ").strip() for line in lines]


def _entry(command: str) -> Path | None:
    """The entry file that a command starts, if it starts one of ours."""
    match = re.search(rf"(?:-m ((?:{'|'.join(LAYERS)})[\w.]*))|(?<![\w/])((?:{'|'.join(LAYERS)})/\w+\.py)\b", command)
    if not match or not re.match(r"(\w+=\S+ )*(\S*/)?(python3?|accelerate launch)\b", command):
        return None
    return Path(match[1].replace(".", "/") + ".py" if match[1] else match[2])


@pytest.mark.skipif(not README.exists(), reason="README.md is not there")
def test_the_readme_has_at_most_200_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path):
    files = _files()
    named = re.findall(rf"(?<![\w./<-])[\w][\w./-]*\.(?:{SUFFIXES})\b(?!\()", document.read_text(encoding="utf-8"))
    missing = [
        name
        for name in named
        if not ELSEWHERE.match(name) and not any(file == name or file.endswith("/" + name) for file in files)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(document: Path):
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not ELSEWHERE.match(link) and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = _commands(document.read_text(encoding="utf-8"))
    named = [match[1] for command in commands if (match := re.match(r"(?:\w+=\S+ )*make ([a-z][\w-]*)", command))]
    assert [name for name in named if name not in targets] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_entry_that_a_document_starts_exists_with_the_settings_it_is_given(document: Path):
    wrong = []
    for command in _commands(document.read_text(encoding="utf-8")):
        entry = _entry(command)
        if entry is None:
            continue
        if entry not in entry_files():
            wrong.append(f"{entry}: no entry")
            continue
        after = command.split(str(entry) if str(entry) in command else str(entry.with_suffix("")).replace("/", "."))[1]
        known = {"config", "help", *(field.name for field in dataclasses.fields(entry_schema(entry)))}
        wrong += [f"{entry}: --{name}" for name in re.findall(r"--([\w-]+)", after) if name not in known]
    assert wrong == []
