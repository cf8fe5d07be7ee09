"""What a file imports, for the tests of the house rules."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.house.repository import LAYERS, ROOT, syntax_tree


@cache
def imported_names(file: Path, *, inside_functions: bool = True) -> tuple[str, ...]:
    """The full name of everything that a file imports, such as ``torch.nn``; a relative import keeps its dots."""
    names: list[str] = []
    for node in _walk(syntax_tree(file), inside_functions):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (f"{node.module}." if node.module else "")
            names += [origin + alias.name for alias in node.names]
    return tuple(names)


def imported_files(file: Path, *, inside_functions: bool = True) -> set[Path]:
    """The other files of the packages that a file imports, relative to the repository."""
    found = {_file_of(name) for name in imported_names(file, inside_functions=inside_functions)}
    return {path for path in found if path is not None} - {file}


def _walk(node: ast.AST, inside_functions: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, inside_functions)


@cache
def _file_of(name: str) -> Path | None:
    """The file behind a name of ours: a module, a package, or the module that defines the name."""
    parts = name.split(".")
    if parts[0] not in LAYERS:
        return None
    for path in (Path(*parts), Path(*parts[:-1])):
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if (ROOT / file).is_file():
                return file
    return None
