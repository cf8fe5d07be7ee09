"""The files of the repository and the entries among them, for the tests of the house rules."""

import ast
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]

# From the bottom up: a package imports itself and those before it.
LAYERS = ("configs", "tokenizer_ext", "scratch_models", "finetune", "apps")


def module_files() -> list[Path]:
    """Every Python file of the packages, relative to the repository."""
    return sorted(path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


@cache
def syntax_tree(file: Path) -> ast.Module:
    """The syntax tree of a file given relative to the repository."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=str(file))


def schema_name(file: Path) -> str | None:
    """The class that an entry file hands to ``run_entry``; nothing for any other file."""
    for node in ast.walk(syntax_tree(file)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run_entry":
            return ast.unparse(node.args[1])
    return None


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
