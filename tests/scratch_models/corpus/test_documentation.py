import inspect
import json
import sys
from pathlib import Path

import pytest

from configs import InputError
from scratch_models.corpus.documentation import Document, read_namespaces, read_package, read_topics

SOURCE = '''
"""A module that must never be run."""
raise RuntimeError("imported")

def plain(x, y: int = 2, *rest, key="a", **others) -> list[int]:
    """Says what plain does, at some length."""
    def inner(z):
        """Says what inner does, at some length."""

async def waiting(x):
    """Says what waiting does, at some length."""

def short():
    """Too short."""

def silent(): ...

class Shape:
    """Says what a shape is, at some length."""

    def __init__(self, width, height=1):
        self.area = width * height

    def grow(self, by):
        """Says what grow does, at some length."""

    @classmethod
    def unit(cls):
        """Says what unit does, at some length."""

    @property
    def area(self) -> float:
        """Says what area is, at some length."""

class Empty:
    """Says what a class without a start is."""

if True:
    def branch():
        """Says what branch does, at some length."""
try:
    def attempt():
        """Says what attempt does, at some length."""
finally:
    pass
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package whose modules raise when they are imported."""
    folder = tmp_path / "sundry_shapes"
    for name, source in {
        "__init__.py": '"""A package that must never be run."""\nraise RuntimeError("imported")\n',
        "shapes.py": SOURCE,
        "template.py": "def {{ name }}(): pass",
        "latin.py": '"""Written in another encoding: caf\xe9."""',
        "tests/test_shapes.py": '"""Says what is tested, at some length."""',
        "deep/er.py": '"""Says what a module deep down holds."""',
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="latin-1")
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


def test_a_package_is_read_without_being_imported(package: str):
    found = {document.name: document for document in read_package(package)}
    assert package not in sys.modules
    assert {name.removeprefix(f"{package}."): (one.kind, one.signature) for name, one in found.items()} == {
        "sundry_shapes": ("module", ""),
        "shapes": ("module", ""),
        "deep.er": ("module", ""),
        "shapes.plain": ("function", "(x, y: int=2, *rest, key='a', **others) -> list[int]"),
        "shapes.plain.inner": ("function", "(z)"),
        "shapes.waiting": ("function", "(x)"),
        "shapes.Shape": ("class", "(width, height=1)"),
        "shapes.Shape.grow": ("function", "(by)"),
        "shapes.Shape.unit": ("function", "()"),
        "shapes.Shape.area": ("function", "() -> float"),
        "shapes.Empty": ("class", ""),
        "shapes.branch": ("function", "()"),
        "shapes.attempt": ("function", "()"),
    }
    assert {document.package for document in found.values()} == {package}
    assert found[f"{package}.shapes.Shape"].docstring == "Says what a shape is, at some length."


def test_documents_say_what_inspect_says_of_the_imported_functions():
    documents = {document.name: document for document in read_package("json")}
    for name in ("dump", "dumps", "load", "loads"):
        function, document = getattr(json, name), documents[f"json.{name}"]
        assert (document.signature, document.docstring) == (str(inspect.signature(function)), inspect.getdoc(function))
    encoder = documents["json.encoder.JSONEncoder"]
    assert encoder.signature == str(inspect.signature(json.JSONEncoder))
    assert encoder.docstring == inspect.getdoc(json.JSONEncoder)


def test_functions_in_c_are_read_from_the_running_library():
    documents = {document.name: document for document in read_namespaces("python", ["math", "builtins"])}
    assert documents["math.sqrt"].docstring == inspect.getdoc(__import__("math").sqrt)
    assert "builtins.sorted" in documents and "builtins.ValueError" not in documents


def test_the_signature_that_opens_the_docstring_of_a_function_in_c_is_taken_from_it():
    documents = {document.name: document for document in read_namespaces("torch", ["torch", "torch.Tensor"])}
    cumsum = documents["torch.Tensor.cumsum"]
    assert (cumsum.signature, cumsum.docstring) == ("(dim, dtype=None) -> Tensor", "See :func:`torch.cumsum`")
    assert documents["torch.allclose"].signature.startswith("(input: Tensor, other: Tensor")
    assert documents["torch.allclose"].docstring.startswith("This function checks if")
    assert not [name for name in documents if name.rpartition(".")[2].startswith("_")]


def test_topics_are_those_of_the_help_function():
    topics = {document.name: document for document in read_topics()}
    assert topics["help.with"].docstring.startswith('The "with" statement')
    assert topics["help.with"].text.startswith("help.with\n\nThe")


def test_a_package_that_is_not_installed_is_refused():
    with pytest.raises(InputError, match="package no_such_package_here is not installed"):
        read_package("no_such_package_here")


def test_the_text_is_the_name_with_the_signature_above_the_docstring():
    assert Document("a.b", "a", "function", "(x) -> int", "Does b.").text == "a.b(x) -> int\n\nDoes b."
