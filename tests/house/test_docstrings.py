"""What is public says what it is, and every setting says what it does."""

import ast
import dataclasses
from pathlib import Path

import pytest

from tests.house.repository import entry_files, entry_schema, module_files, schema_name, syntax_tree

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public_definitions(body: list[ast.stmt], prefix: str = "") -> list[tuple[str, Documented]]:
    found: list[tuple[str, Documented]] = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found.append((prefix + node.name, node))
            if isinstance(node, ast.ClassDef):
                found += _public_definitions(node.body, f"{node.name}.")
    return found


@pytest.mark.parametrize("file", module_files(), ids=str)
def test_every_module_and_public_name_has_a_docstring(file: Path):
    tree = syntax_tree(file)
    documented: list[tuple[str, Documented]] = [("the module", tree), *_public_definitions(tree.body)]
    assert [name for name, node in documented if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("file", entry_files(), ids=str)
def test_every_setting_has_a_line_of_docstring(file: Path):
    schema = next(
        node for node in syntax_tree(file).body if isinstance(node, ast.ClassDef) and node.name == schema_name(file)
    )
    silent = [
        ast.unparse(node.target)
        for node, below in zip(schema.body, [*schema.body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign)
        and not (isinstance(below, ast.Expr) and isinstance(getattr(below.value, "value", None), str))
    ]
    assert silent == []


@pytest.mark.parametrize("file", entry_files(), ids=str)
def test_settings_are_frozen_and_given_by_keyword(file: Path):
    schema = entry_schema(file)
    assert schema.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(schema))
