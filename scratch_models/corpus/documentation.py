"""Documents read from the sources of installed packages: one for each function, class or module with a docstring.

Sources are parsed, never imported, so reading has no side effects. The few functions that are written in C, and so have
no source to parse, are read from the running library; their docstring opens with the signature.
"""

import ast
import importlib
import importlib.util
import inspect
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from configs import InputError

SHORTEST_DOCSTRING_CHARACTERS = 20
SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "site-packages", "idlelib", "lib2to3", "__pycache__"}
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Document:
    """What one function, class or module says of itself."""

    name: str
    """Qualified name: module, class, function."""
    package: str
    """Top-level package that it came from."""
    kind: str
    """`function`, `class` or `module`."""
    signature: str
    """Parameters and return annotation, as in the source: `(x, dim=0) -> Tensor`; empty for a module."""
    docstring: str
    """The cleaned docstring."""

    @property
    def text(self) -> str:
        """The document as a model reads it: name with signature, blank line, docstring.

        >>> Document("math.tau", "math", "function", "(x)", "Twice pi.").text.splitlines()
        ['math.tau(x)', '', 'Twice pi.']
        """
        return f"{self.name}{self.signature}\n\n{self.docstring}"


def read_package(package: str) -> list[Document]:
    """The documents of an installed package, or of the standard library for the name `python`.

    Raises:
        InputError: the package is not installed.

    """
    files = _source_files(package)
    # "spawn": the parent may already hold torch's threads, which a forked child would find cut off in mid-work.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = pool.map(_read_file, [(package, module, str(path)) for module, path in files], chunksize=32)
        return list(chain.from_iterable(found))


def read_namespaces(package: str, names: Sequence[str]) -> list[Document]:
    """The documents of the functions in C that the named modules and classes hold (`torch`, `torch.Tensor`)."""
    return list(chain.from_iterable(_read_namespace(package, name) for name in names))


def read_topics() -> list[Document]:
    """The topics of Python's language reference, as `help()` shows them."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return [Document(f"help.{name}", "python", "module", "", text.strip()) for name, text in sorted(topics.items())]


def _source_files(package: str) -> list[tuple[str, Path]]:
    folder = _source_folder(package)
    prefix = () if package == "python" else (package,)
    files = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if not SKIPPED_FOLDERS.intersection(parts):
            files.append((".".join(prefix + parts).removesuffix(".__init__"), path))
    return files


def _source_folder(package: str) -> Path:
    if package == "python":
        return Path(sysconfig.get_paths()["stdlib"])
    found = importlib.util.find_spec(package)  # looks a top-level package up without importing it
    if found is None or not found.submodule_search_locations:
        raise InputError(f"package {package} is not installed: pip install 'graft-lm[embedded]'")
    return Path(found.submodule_search_locations[0])


def _read_file(file: tuple[str, str, str]) -> list[Document]:
    package, module, path = file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in other people's strings
            tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):  # templates and test inputs that are Python in name only
        return []
    documents = [Document(module, package, "module", "", ast.get_docstring(tree) or "")]
    documents += [_from_definition(package, name, node) for name, node in _definitions(tree, module)]
    return [document for document in documents if len(document.docstring) >= SHORTEST_DOCSTRING_CHARACTERS]


def _definitions(parent: ast.AST, name: str) -> Iterator[tuple[str, Definition]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Definition):
            yield f"{name}.{node.name}", node
            yield from _definitions(node, f"{name}.{node.name}")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _definitions(node, name)


def _from_definition(package: str, name: str, node: Definition) -> Document:
    docstring = ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        return Document(name, package, "class", _class_signature(node), docstring)
    return Document(name, package, "function", _function_signature(node), docstring)


def _class_signature(node: ast.ClassDef) -> str:
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return _function_signature(member)
    return ""


def _function_signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    parameters = ast.unparse(node.args).removeprefix("self, ").removeprefix("cls, ")
    parameters = "" if parameters in ("self", "cls") else parameters
    returned = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"({parameters}){returned}"


def _read_namespace(package: str, name: str) -> list[Document]:
    holder = _resolve(name)
    documents = []
    for member in sorted(dir(holder)):
        value = getattr(holder, member, None)
        docstring = getattr(value, "__doc__", None)
        if member.startswith("_") or not isinstance(docstring, str) or not _written_in_c(value):
            continue
        opening, _, rest = inspect.cleandoc(docstring).partition("\n")
        is_signature = opening.partition("(")[0].rpartition(".")[2] == member
        signature = opening[opening.index("(") :].strip() if is_signature else ""
        body = rest.strip() if is_signature else inspect.cleandoc(docstring)
        if len(body) >= SHORTEST_DOCSTRING_CHARACTERS:
            documents.append(Document(f"{name}.{member}", package, "function", signature, body))
    return documents


def _resolve(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:  # a class inside a module
        module, _, member = name.rpartition(".")
        return getattr(importlib.import_module(module), member)


def _written_in_c(value: object) -> bool:
    kinds = (
        *("builtin_function_or_method", "method_descriptor", "getset_descriptor", "wrapper_descriptor"),
        *("ufunc", "_ArrayFunctionDispatcher"),  # numpy's
    )
    return type(value).__name__ in kinds
