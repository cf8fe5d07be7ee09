"""Every library that a file imports is declared in pyproject.toml, and all that is installed has one exact version."""

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest

from tests.house.module_imports import imported_names
from tests.house.repository import LAYERS, ROOT, module_files, offences

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_US_ONLY = ("dev", "bench", "docs")  # extras that no user of the packages installs

# Python's own installer, what builds the wheel (in an environment of its own), and the project itself.
NOT_PINNED = ("pip", "setuptools", "wheel", "graft-lm")

# A benchmark measures peers where it finds them; no extra can bring those.
TESTS = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("*.py")) if "benchmarks" not in path.parts]


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _names(requirements: list[str]) -> set[str]:
    """The distributions of requirements such as ``jsonargparse[signatures]>=4.53``."""
    return {_canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}


def _declared(without: tuple[str, ...] = ()) -> set[str]:
    extras = PROJECT["optional-dependencies"]
    return _names(PROJECT["dependencies"]).union(*(_names(extras[name]) for name in extras.keys() - set(without)))


@cache
def _holders() -> dict[str, list[str]]:
    """The installed distributions that hold each name; to ask for them takes a second."""
    return {name: [_canonical(one) for one in holders] for name, holders in packages_distributions().items()}


def _undeclared(file: Path, declared: set[str]) -> list[str]:
    """The libraries that a file imports and no declared distribution holds."""
    ours = {*LAYERS, "tests", *sys.stdlib_module_names}
    libraries = {name.split(".")[0] for name in imported_names(file)} - ours
    return [name for name in sorted(libraries) if declared.isdisjoint(_holders().get(name, [_canonical(name)]))]


def test_what_a_module_imports_is_declared_for_its_users():
    declared = _declared(without=FOR_US_ONLY)
    assert offences(module_files(), lambda file: _undeclared(file, declared)) == {}


def test_what_a_test_imports_is_declared():
    declared = _declared()
    assert offences(TESTS, lambda file: _undeclared(file, declared)) == {}


def test_every_dependency_has_a_lower_bound():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    requirements = [requirement for listed in lists for requirement in listed]
    assert [line for line in requirements if ">=" not in line and not line.startswith("graft-lm[")] == []


def _pins() -> list[tuple[str, str]]:
    """What constraints.txt pins, line by line: the distribution and the version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [
        re.fullmatch(r"([\w.-]+)==([\w.]+)", line) or (line, line, "no exact version")
        for line in lines
        if line[0] != "#"
    ]
    return [(_canonical(pin[1]), pin[2]) for pin in pins]


def test_each_distribution_is_pinned_once_at_an_exact_version():
    pins = _pins()
    assert [name for name, version in pins if version == "no exact version"] == []
    assert len(pins) == len(dict(pins))


def test_all_that_is_declared_for_users_is_pinned():
    assert sorted(_declared() - {name for name, _ in _pins()} - {*NOT_PINNED}) == []


def test_every_installed_distribution_is_the_pinned_one():
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("this is not the environment that `make test` installs")
    installed = {_canonical(one.name): one.version.partition("+")[0] for one in distributions()}  # torch is 2.13.0+cpu
    pins = dict(_pins())
    assert {name: version for name, version in installed.items() - pins.items() if name not in NOT_PINNED} == {}
