"""Imports go down only, by full name, and need no extra."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import LAYERS, ROOT, module_files, syntax_tree

EXTRAS = ("datasets", "matplotlib", "datasketch", "trl", "pytest", "hypothesis", "playwright")


def _imported_names(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(syntax_tree(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    return names


@pytest.mark.parametrize("file", module_files(), ids=str)
def test_imports_point_down_and_are_written_in_full(file: Path):
    height = LAYERS.index(file.parts[0])
    forbidden = (*LAYERS[height + 1 :], "tests")
    offending = [name for name in _imported_names(file) if name.startswith(".") or name.split(".")[0] in forbidden]
    assert offending == []


def test_every_module_imports_where_no_extra_is_installed():
    modules = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in module_files()]
    program = f"import importlib, sys\nfor name in {EXTRAS}: sys.modules[name] = None\n"
    program += f"for name in {modules}: importlib.import_module(name)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
