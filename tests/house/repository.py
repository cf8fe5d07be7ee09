"""The files of the repository, its folders and the entries among them, for the tests of the house rules."""

import ast
import importlib
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the bottom up: a package imports itself and those before it.
LAYERS = ("configs", "tokenizer_ext", "scratch_models", "finetune", "apps")

# The same inside a package: a folder imports itself and those before it. Folders in a tuple of their own stand side by
# side and do not import one another. What stands at the top of a package, its entries among it, imports all folders.
FOLDER_LAYERS: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "configs": (),
    "tokenizer_ext": (
        "bpe",
        "pages",
        "foreign",
        "huggingface",
        "encoders",
        "held_weights",
        "embeddings",
        "extension",
        "inspection",
        "trimming",
    ),
    "scratch_models": (
        "launch",
        "checkpoints",
        "loop",
        "sharded",
        "documents",
        "corpus",
        "neurons",
        "rungs",
        "embedded",
        "decoding",
        "looking",
        "image_words",
        "scaling_laws",
    ),
    "finetune": (
        "files",
        "conversations",
        "inspection",
        "templates",
        "chat",
        "engine",
        "losses",
        "lora",
        "decoding",
        "replies",
        "evaluation",
        "export",
        "sliced",
        ("rows", "preference", "supervised", "red_teaming"),
        ("pretraining", "gguf_files", "gisting"),
        "api",
        ("serving", "runs"),
        "service",
        "studio",
    ),
    "apps": ("shapes", "guarding", "api", "showing", "comparing", "running", "tabs"),
}


@cache
def module_files() -> list[Path]:
    """Every Python file of the packages, relative to the repository."""
    return sorted(path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def offences(files: Iterable[Path], rule: Callable[[Path], list[str]]) -> dict[str, list[str]]:
    """What a rule finds wrong, by file; one test a rule, since a test a file and rule would be thousands."""
    return {str(file): found for file in files if (found := rule(file))}


def module_folders() -> list[Path]:
    """Every folder inside a package that holds Python files, relative to the repository."""
    return sorted({file.parent for file in module_files() if len(file.parts) > 2})


@cache
def kept_files() -> list[str]:
    """Every file of the repository that git knows or could know, with slashes; skips the test where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("no git repository: the files cannot be listed")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@cache
def syntax_tree(file: Path) -> ast.Module:
    """The syntax tree of a file given relative to the repository."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=str(file))


@cache
def schema_names(file: Path) -> list[str]:
    """The classes that an entry file hands to ``run_entry``, one a command of it; none for any other file."""
    calls = [node for node in ast.walk(syntax_tree(file)) if isinstance(node, ast.Call)]
    return [ast.unparse(call.args[1]) for call in calls if getattr(call.func, "id", "") == "run_entry"]


def schema_name(file: Path) -> str | None:
    """The class of an entry file's first command."""
    return next(iter(schema_names(file)), None)


@cache
def entry_files() -> list[Path]:
    """Every file that can be started from the command line."""
    return [file for file in module_files() if schema_name(file) and file.parts[0] != "configs"]


def load_module(file: Path) -> ModuleType:
    """The module in a file of the packages, imported by its full name."""
    return importlib.import_module(".".join(file.with_suffix("").parts))


def entry_schema(file: Path) -> type:
    """The settings class of an entry file."""
    name = schema_name(file)
    assert name, f"{file} hands no class to run_entry"
    return getattr(load_module(file), name)
