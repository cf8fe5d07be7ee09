"""No folder, file or function grows past what a reader takes in at once."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.house.repository import ROOT, module_files, syntax_tree

FOLDER_FILES = 15
FILE_LINES = 250
FUNCTION_LINES = 40  # from `def` to the end, docstring included


def test_no_folder_holds_more_than_15_python_files():
    counts = Counter(str(file.parent) for file in module_files())
    assert {folder: files for folder, files in counts.items() if files > FOLDER_FILES} == {}


@pytest.mark.parametrize("file", module_files(), ids=str)
def test_no_file_is_longer_than_250_lines(file: Path):
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= FILE_LINES


@pytest.mark.parametrize("file", module_files(), ids=str)
def test_no_function_is_longer_than_40_lines(file: Path):
    functions = [
        node for node in ast.walk(syntax_tree(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lines = [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions]
    assert [(name, count) for name, count in lines if count > FUNCTION_LINES] == []
