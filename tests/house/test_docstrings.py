"""What is public says what it is, and every setting says what it does."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

from tests.house.repository import (
    ROOT,
    entry_files,
    entry_schema,
    module_files,
    module_folders,
    offences,
    syntax_tree,
)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public_definitions(body: list[ast.stmt], prefix: str = "") -> list[tuple[str, Documented]]:
    found: list[tuple[str, Documented]] = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if "overload" in map(ast.unparse, node.decorator_list):  # what it gives back is all that it says
                continue
            found.append((prefix + node.name, node))
            if isinstance(node, ast.ClassDef):
                found += _public_definitions(node.body, f"{node.name}.")
    return found


def _without_docstring(file: Path) -> list[str]:
    tree = syntax_tree(file)
    documented: list[tuple[str, Documented]] = [("the module", tree), *_public_definitions(tree.body)]
    return [name for name, node in documented if not ast.get_docstring(node)]


def test_every_module_and_public_name_has_a_docstring():
    assert offences(module_files(), _without_docstring) == {}


def test_every_folder_says_in_the_first_line_of_its_init_file_what_it_is_for():
    said: dict[str, str] = {}
    for folder in module_folders():
        file = folder / "__init__.py"
        assert (ROOT / file).is_file(), f"{folder} has no __init__.py: a wheel would lack it"
        line = (ast.get_docstring(syntax_tree(file)) or "").partition("\n")[0]
        assert line.endswith(".") and len(line.split()) >= 3, f"{file}: the first line {line!r} says no purpose"
        assert line not in said, f"{file} says the same as {said[line]}"
        said[line] = str(file)


def _silent_fields(schema: type) -> list[str]:
    """The fields in the body of a class that no docstring follows."""
    definition = ast.parse(inspect.getsource(schema)).body[0]
    assert isinstance(definition, ast.ClassDef)
    return [
        ast.unparse(node.target)
        for node, below in zip(definition.body, [*definition.body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign)
        and not (isinstance(below, ast.Expr) and isinstance(getattr(below.value, "value", None), str))
    ]


@pytest.mark.parametrize("file", entry_files(), ids=str)
def test_every_setting_has_a_line_of_docstring(file: Path):
    classes = [schema for schema in entry_schema(file).__mro__ if schema is not object]
    assert [name for schema in classes for name in _silent_fields(schema)] == []


@pytest.mark.parametrize("file", entry_files(), ids=str)
def test_settings_are_frozen_and_given_by_keyword(file: Path):
    schema = entry_schema(file)
    assert schema.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(schema))
