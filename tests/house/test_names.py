"""No file hides a library, and each is named for what it holds."""

import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.house.repository import LAYERS, ROOT, module_files

TOO_GENERAL = {"utils", "common", "helpers", "core", "base", "manager", "data"}


@cache
def _libraries() -> set[str]:
    ours = set(LAYERS)
    installed = {name.split(".")[0].split("/")[0] for name in packages_distributions()}
    return (installed | set(sys.stdlib_module_names)) - ours


@pytest.mark.parametrize("file", module_files(), ids=str)
def test_no_file_is_named_like_a_library(file: Path):
    # `python finetune/sft.py` puts finetune/ first on the path: a file named like a library there hides that library.
    assert file.stem == "__init__" or file.stem not in _libraries()


@pytest.mark.parametrize("layer", LAYERS)
def test_no_package_is_named_like_a_library(layer: str):
    assert set(packages_distributions().get(layer, ["graft-lm"])) == {"graft-lm"}
    assert layer not in sys.stdlib_module_names


@pytest.mark.parametrize("file", module_files(), ids=str)
def test_no_file_is_named_for_how_general_it_is(file: Path):
    assert file.stem not in TOO_GENERAL


def test_the_top_level_holds_no_other_package():
    modules = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert modules <= {*LAYERS, "tests"}
    assert not list(ROOT.glob("*.py"))
