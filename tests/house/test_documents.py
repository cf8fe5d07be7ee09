"""Every path and command that README, CONTRIBUTING, SECURITY and docs name exists."""

import dataclasses
import re
from pathlib import Path

import pytest

from tests.house.repository import LAYERS, ROOT, entry_files, kept_files, load_module, module_folders, schema_names

README = ROOT / "README.md"
DOCUMENTS = [
    path
    for path in (README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.exists()
]

# What a run writes, and what lies beside the repository, is not in it.
ELSEWHERE = re.compile(r"^(runs|checkpoints|final|base|adapter|\.venv|\.\.)/|^(https?:|/|~)")
SUFFIXES = "py|yaml|toml|md|tiktoken|cfg"


def _blocks(text: str) -> list[str]:
    """The contents of the fenced blocks."""
    return re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)


def _commands(text: str) -> list[str]:
    """The commands in the fenced blocks and between single backticks, prompt removed, continued lines joined."""
    lines = "\n".join(_blocks(text)).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line.removeprefix("$ ").strip() for line in lines]


def _entry(command: str) -> Path | None:
    """The entry file that a command starts, if it starts one of ours."""
    match = re.search(rf"(?:-m ((?:{'|'.join(LAYERS)})[\w.]*))|(?<![\w/])((?:{'|'.join(LAYERS)})/\w+\.py)\b", command)
    if not match or not re.match(r"(\w+=\S+ )*(\S*/)?(python3?|accelerate launch)\b", command):
        return None
    if match[1] and (ROOT / match[1].replace(".", "/") / "__main__.py").is_file():
        return None  # a word of its own says what it does; the tests of that folder hold its documents to it
    return Path(match[1].replace(".", "/") + ".py" if match[1] else match[2])


def _tree(text: str) -> list[tuple[Path, str]]:
    """The folders and Python files of the trees drawn in the fenced blocks, each with the clause behind it.

    A line of a tree is ``name/   clause`` or ``one.py  two.py   clause``; indented more, it stands in the folder above.
    """
    found: list[tuple[Path, str]] = []
    for block in _blocks(text):
        above: list[tuple[int, Path]] = []
        for line in block.splitlines():
            match = re.fullmatch(r"([ │├└─]*)([\w./-]+/ +|(?:[\w-]+\.py[ ,]+)+)(.*)", line + " ")
            if match is None:
                continue
            above = [(indent, folder) for indent, folder in above if indent < len(match[1])]
            paths = [Path(above[-1][1] if above else "", name) for name in match[2].replace(",", " ").split()]
            found += [(path, match[3].strip()) for path in paths]
            above += [(len(match[1]), path) for path in paths if path.suffix == ""]
    return [(path, clause) for path, clause in found if not ELSEWHERE.match(f"{path}/")]


@pytest.mark.skipif(not README.exists(), reason="README.md is not there")
def test_the_readme_has_at_most_170_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 170


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_readme_names_both_commands_of_a_fresh_clone(target: str):
    commands = _commands(README.read_text(encoding="utf-8"))
    assert any(re.match(rf"make {target}(?![\w-])", command) for command in commands)


def test_the_tree_of_the_readme_shows_every_folder_of_the_packages_and_nothing_that_is_not_there():
    drawn = _tree(README.read_text(encoding="utf-8"))
    assert [str(path) for path, _ in drawn if not (ROOT / path).exists()] == []
    assert {Path(package) for package in LAYERS} | set(module_folders()) <= {path for path, _ in drawn}


def test_every_folder_in_the_tree_of_the_readme_has_a_clause():
    drawn = _tree(README.read_text(encoding="utf-8"))
    parents = {folder for path, _ in drawn for folder in path.parents}  # what is drawn inside them speaks for them
    assert [str(path) for path, clause in drawn if path.suffix == "" and path not in parents and not clause] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path):
    files = kept_files()
    named = re.findall(rf"(?<![\w./<-])[\w][\w./-]*\.(?:{SUFFIXES})\b(?!\()", document.read_text(encoding="utf-8"))
    missing = [
        name
        for name in named
        if not ELSEWHERE.match(name) and not any(file == name or file.endswith("/" + name) for file in files)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_folder_that_a_document_names_exists(document: Path):
    tops = "|".join((*LAYERS, "tests", "docs"))
    named = re.findall(rf"(?<![\w./<-])((?:{tops})/(?:[\w-]+/)*)(?![\w.-])", document.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_dir()] == []


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
        schemas = [getattr(load_module(entry), name) for name in schema_names(entry)]
        known = {"config", "help", *(field.name for schema in schemas for field in dataclasses.fields(schema))}
        wrong += [f"{entry}: --{name}" for name in re.findall(r"--([\w-]+)", after) if name not in known]
    assert wrong == []
