"""Entries stand where a newcomer looks, and join the other processes of their launch, also where there is no GPU."""

import ast
from pathlib import Path

import pytest

from tests.house.repository import entry_files, module_files, syntax_tree


def _accelerators(file: Path) -> list[ast.Call]:
    calls = [node for node in ast.walk(syntax_tree(file)) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func).split(".")[-1] == "Accelerator"]


def test_entries_stand_at_the_top_of_their_package():
    assert [str(file) for file in entry_files() if len(file.parts) != 2] == []


@pytest.mark.parametrize("file", [file for file in module_files() if _accelerators(file)], ids=str)
def test_an_accelerator_is_told_whether_there_is_a_gpu(file: Path):
    # Only then does accelerate connect the processes of a launch through gloo; else each trains alone on all the data.
    options = [{keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords} for call in _accelerators(file)]
    assert [option.get("cpu") for option in options] == ["not torch.accelerator.is_available()"] * len(options)
