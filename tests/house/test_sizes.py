"""No folder, file or function grows past what a reader takes in at once."""

import ast
from collections import Counter
from pathlib import Path

from tests.house.repository import ROOT, module_files, offences, syntax_tree

FOLDER_FILES = 15
FILE_LINES = 250
FUNCTION_LINES = 40  # from `def` to the end, docstring included


def test_no_folder_holds_more_than_15_python_files():
    counts = Counter(str(file.parent) for file in module_files())
    assert {folder: files for folder, files in counts.items() if files > FOLDER_FILES} == {}


def test_no_file_is_longer_than_250_lines():
    lines = {str(file): len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in module_files()}
    assert {file: count for file, count in lines.items() if count > FILE_LINES} == {}


def _long_functions(file: Path) -> list[str]:
    functions = [
        node for node in ast.walk(syntax_tree(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lines = [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions]
    return [f"{name}: {count}" for name, count in lines if count > FUNCTION_LINES]


def test_no_function_is_longer_than_40_lines():
    assert offences(module_files(), _long_functions) == {}
