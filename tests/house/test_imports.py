"""Imports go down only, by full name, and need no extra; none closes a circle."""

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.house.module_imports import imported_files, imported_names
from tests.house.repository import FOLDER_LAYERS, LAYERS, ROOT, entry_files, module_files, module_folders, offences

EXTRAS = (
    "datasets",
    "matplotlib",
    "datasketch",
    "py3langid",
    "scipy",
    "openai",
    "trl",
    "pytest",
    "hypothesis",
    "playwright",
    "sklearn",
)


def _heights(package: str) -> dict[str, int]:
    """How high each folder of a package stands; the empty name is the package's top."""
    floors = [(floor,) if isinstance(floor, str) else floor for floor in FOLDER_LAYERS[package]]
    return {folder: height for height, floor in enumerate([*floors, ("",)]) for folder in floor}


def _folder(file: Path) -> str:
    """The folder of a file inside its package; the empty name at the top."""
    return "/".join(file.parts[1:-1])


@cache
def _names_inside_packages() -> set[str]:
    """The folders of the packages, and the modules that stand beside an entry."""
    entry_folders = {entry.parent for entry in entry_files()}
    modules = {file.stem for file in module_files() if file.parent in entry_folders}
    return (modules - {"__init__"}).union(*(_heights(package) for package in LAYERS)) - {""}


def _circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The names along one circle of a graph, none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def _pointing_up(file: Path) -> list[str]:
    height = LAYERS.index(file.parts[0])
    forbidden = (*LAYERS[height + 1 :], "tests")
    return [name for name in imported_names(file) if name.startswith(".") or name.split(".")[0] in forbidden]


def test_imports_point_down_and_are_written_in_full():
    assert offences(module_files(), _pointing_up) == {}


@pytest.mark.parametrize("package", LAYERS)
def test_the_folders_of_a_package_are_those_of_its_order(package: str):
    folders = {_folder(folder / "__init__.py") for folder in module_folders() if folder.parts[0] == package}
    assert folders == _heights(package).keys() - {""}


def _against_the_order(file: Path) -> list[str]:
    package, folder = file.parts[0], _folder(file)
    heights = _heights(package)
    lower = {other for other, height in heights.items() if folder in heights and height < heights[folder]}
    inside = [other for other in imported_files(file) if other.parts[0] == package]
    return [str(other) for other in inside if _folder(other) not in lower | {folder}]


def test_imports_inside_a_package_point_down_its_order_of_folders():
    assert offences(module_files(), _against_the_order) == {}


def test_no_import_starts_at_a_folder_or_at_a_file_beside_an_entry():
    # `accelerate launch finetune/sft.py` puts finetune/ first on the path, so `from chat.batches import …` works there,
    # loads the module a second time, and fails wherever else the file is imported.
    inside = _names_inside_packages()
    found = offences(
        module_files(), lambda file: [name for name in imported_names(file) if name.split(".")[0] in inside]
    )
    assert found == {}


def test_no_module_imports_an_entry():
    # An entry is started, and reads the settings of one process: what others use stands in a folder below it.
    entries = set(entry_files())
    assert offences(module_files(), lambda file: sorted(map(str, imported_files(file) & entries))) == {}


def test_no_circle_of_imports_runs_through_folders():
    graph: dict[str, set[str]] = {}
    for file in module_files():
        graph.setdefault(str(file.parent), set()).update(str(other.parent) for other in imported_files(file))
    assert _circle({folder: others - {folder} for folder, others in graph.items()}) == []


def test_no_circle_of_imports_runs_through_files():
    graph = {file: imported_files(file, inside_functions=False) for file in module_files()}
    assert _circle({str(file): {str(other) for other in others} for file, others in graph.items()}) == []


def _extras_outside_functions(file: Path) -> list[str]:
    return [name for name in imported_names(file, inside_functions=False) if name.split(".")[0] in EXTRAS]


def test_extras_are_imported_inside_the_functions_that_use_them():
    assert offences(module_files(), _extras_outside_functions) == {}


@pytest.mark.long
def test_every_module_imports_where_no_extra_is_installed():
    modules = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in module_files()]
    program = f"import importlib, sys\nfor name in {EXTRAS}: sys.modules[name] = None\n"
    program += f"for name in {modules}: importlib.import_module(name)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
