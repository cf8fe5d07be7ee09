"""No file and no folder hides a library, and each is named for what it holds."""

import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.house.repository import LAYERS, ROOT, entry_files, module_files, module_folders

TOO_GENERAL = {"utils", "common", "helpers", "core", "base", "manager", "data"}

# `python finetune/sft.py` puts finetune/ first on the path: what stands there like a library hides that library.
ENTRY_FOLDERS = sorted({file.parent for file in entry_files()})


@cache
def _holders() -> dict[str, list[str]]:
    """The installed distributions that hold each name; to ask for them takes a second."""
    return dict(packages_distributions())


@cache
def _libraries() -> set[str]:
    ours = set(LAYERS)
    installed = {name.split(".")[0].split("/")[0] for name in _holders()}
    return (installed | set(sys.stdlib_module_names)) - ours


@cache
def _well_known() -> list[str]:
    """The stock list: what is not installed here may be on the machine of a user."""
    lines = Path(__file__).with_name("well_known_import_names.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _beside(folder: Path) -> list[str]:
    """The name of every module and of every folder that stands in a folder; a folder of stale bytecode is none."""
    modules = [path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"]
    below = [path.relative_to(ROOT / folder) for path in (ROOT / folder).glob("*/**/*") if path.is_file()]
    return sorted([*modules, *{path.parts[0] for path in below if "__pycache__" not in path.parts}])


def test_no_file_is_named_like_a_library():
    assert [str(file) for file in module_files() if file.stem != "__init__" and file.stem in _libraries()] == []


@pytest.mark.parametrize("package", LAYERS)
def test_no_folder_of_modules_is_named_like_a_library(package: str):
    folders = [folder for folder in module_folders() if folder.parts[0] == package]
    assert [str(folder) for folder in folders if folder.name in _libraries()] == []


@pytest.mark.parametrize("folder", ENTRY_FOLDERS, ids=str)
def test_nothing_beside_an_entry_is_named_like_a_library(folder: Path):
    # Deeper modules are imported by their full name only, so the stock list need not bind them.
    assert [name for name in _beside(folder) if name in _libraries() | set(_well_known())] == []


@pytest.mark.parametrize("folder", ENTRY_FOLDERS, ids=str)
def test_with_the_folder_of_an_entry_first_on_the_path_no_library_is_found_in_it(folder: Path):
    # Python's own look-up: trio asks for `outcome`, and must not be given a file of ours.
    names = sorted({*_well_known(), *_libraries()})
    assert [name for name in names if PathFinder.find_spec(name, [str(ROOT / folder)])] == []


def test_the_stock_list_is_long_sorted_and_holds_names_that_were_hidden_once():
    names = _well_known()
    assert len(set(names)) == len(names) >= 400
    assert names == sorted(names, key=lambda name: (name.casefold(), name))
    assert all(name.isidentifier() for name in names)
    assert {"outcome", "records", "datasets", "measurement", "fingerprints", "adapters", "trackers"} <= set(names)
    assert set(names).isdisjoint(sys.stdlib_module_names)


@pytest.mark.parametrize("layer", LAYERS)
def test_no_package_is_named_like_a_library(layer: str):
    assert set(_holders().get(layer, ["graft-lm"])) == {"graft-lm"}
    assert layer not in {*sys.stdlib_module_names, *_well_known()}


def test_no_file_and_no_folder_is_named_for_how_general_it_is():
    assert [str(file) for file in module_files() if not TOO_GENERAL.isdisjoint([file.stem, *file.parts[:-1]])] == []


def test_the_top_level_holds_no_other_package():
    modules = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert modules <= {*LAYERS, "tests"}
    assert not list(ROOT.glob("*.py"))
