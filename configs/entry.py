"""How an entry file reads its settings and reports what a user can mend.

An entry declares a frozen keyword-only dataclass with a docstring under each field and ends in
``if __name__ == "__main__": run_entry(main, SampleSettings)``.
"""

import atexit
import dataclasses
import difflib
import gc
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jsonargparse

from configs.arguments import name_first, set_bare_keys, split_files, take_several
from configs.errors import InputError
from configs.given_texts import check_texts
from configs.one_line_ending import TRACEBACK, ends_in_one_line, say
from configs.precedence import overridden, recipe_of
from configs.yaml_settings import read_settings

T = TypeVar("T")

SAME_ELSEWHERE = (("corpus", "data"), ("base", "model", "tuned", "checkpoint"))
"""Names of which an entry has one where another has the other: text or conversations, a model to read."""


def load_config(schema: type[T], arguments: Sequence[str] | None = None, *, command: str | None = None) -> T:
    """The settings that the YAML files after ``--config`` and the ``--field value`` pairs give, defaults elsewhere.

    A pair on the command line wins over any file, a later file over an earlier one, any file over the recipe of the
    project (`configs.precedence`). A bare ``--flag`` sets a bool; ``--field.key value`` sets one key of a mapping,
    beside those that a file gives it, and may be bare too.
    ``arguments`` are those of the process unless given; ``command`` is the name that ``--help`` shows.

    Raises:
        InputError: An unknown name (with the one it means), a value of the wrong type, a setting that is required.
        MissingInput: A YAML file does not exist.
    """
    parser = _settings_parser(schema, command)
    files, pairs = split_files(sys.argv[1:] if arguments is None else arguments)
    pairs = name_first(schema, pairs)
    for file in files:
        _check_file(parser, schema, file)
    _check_names(schema, pairs)
    if recipe := recipe_of(schema, files, pairs):
        files = [recipe.path, *files]
    several, others = take_several(schema, pairs)
    parsed = parser.parse_args([*(f"--config={file}" for file in files), *set_bare_keys(others)])
    taken_back = overridden(schema, files, pairs)
    given = {name: parsed[name] for name in _names(schema) if name not in taken_back} | several
    check_texts(given)
    return schema(**given)


def check_settings(schema: type[T], **values: Any) -> T:
    """The settings that a call in Python gives, held to the types of the schema as those of a YAML file are.

    A path may stand for its name.

    Raises:
        InputError: An unknown name (with the one it means), a value of the wrong type or one that cannot be.
    """
    parser = _settings_parser(schema, None)
    named = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    for name, value in named.items():
        _check_setting(parser, schema, name, value, where="")
    parsed = parser.parse_object(named, defaults=False)
    check_texts(named)
    return schema(**{name: parsed[name] for name in named})


def run_entry(main: Callable[[T], None], schema: type[T]) -> None:
    """Runs ``main`` on the settings of this process; exits with status 2 and one line for what the user can mend.

    Among several processes of one launch only the main one prints that. Another exception is a fault of the program,
    with status 1. ``--traceback`` shows where either was raised. A run that was asked to end and has saved what it did
    ends with status 0, whatever else SIGTERM ends with 143.
    """
    atexit.register(gc.freeze)  # or the interpreter looks through all that torch made, for seconds, before it ends
    arguments = [one for one in sys.argv[1:] if one != TRACEBACK]
    with ends_in_one_line(with_traceback=TRACEBACK in sys.argv[1:], settings=_names(schema)):
        settings = load_config(schema, arguments)
        if recipe := recipe_of(schema, *split_files(arguments)):
            say(recipe.describe())
        main(settings)


class _SettingsParser(jsonargparse.ArgumentParser):
    """The library's parser with its errors in one line; it reads the schema to name the type that it expected."""

    schema: type

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(_one_line(self.schema, message)) from ex


def _settings_parser(schema: type, command: str | None) -> _SettingsParser:
    """A parser with one option per field, whose help is the docstring under the field."""
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _SettingsParser(
        prog=command or _command_of_process(),
        usage="%(prog)s [--config FILE.yaml] [--field value ...]",
        print_config=None,
    )
    parser.schema = schema
    parser.add_argument("--config", action="config", metavar="FILE.yaml", help="File of `field: value` lines.")
    parser.add_argument(TRACEBACK, action="store_true", help="Shows where an error was raised, beside its one line.")
    parser.add_class_arguments(schema)
    kinds = typing.get_type_hints(schema)
    for action in parser._actions:
        if kinds.get(action.dest) is bool:
            action.nargs, action.const = "?", True
    parser._negative_number_matcher = re.compile(r"-\.?\d")  # argparse takes -1e-4 for the name of an option
    return parser


def _command_of_process() -> str:
    """What started this process, as `python file.py` or `python -m package.module`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"


def _check_names(schema: type, pairs: Iterable[str]) -> None:
    """Refuses an option that names no field; `--field.key value` sets one key of a field that is a mapping."""
    options = [*_names(schema), "config", "help"]
    mappings = {name for name, kind in typing.get_type_hints(schema).items() if typing.get_origin(kind) is dict}
    for argument in pairs:
        name = argument.removeprefix("--").partition("=")[0]
        field, dot, key = name.partition(".")
        if argument.startswith("--") and name and argument != TRACEBACK and not (field in mappings and dot and key):
            _check_name(name, options, where="")


def _check_name(name: str, names: list[str], *, where: str) -> None:
    if name not in names:
        meant = _meant(name, names)
        expected = f"did you mean {meant}? (run with --help to see all)" if meant else f"there are {', '.join(names)}"
        raise InputError(f"{where}{name}: no such setting, {expected}")


def _meant(name: str, names: list[str]) -> str | None:
    """The setting that a name which is none stands for: what means the same here, else what is spelt nearly so.

    >>> _meant("dropuot", ["data", "dropout"]), _meant("corpus", ["data", "dropout"]), _meant("colour", ["data"])
    ('dropout', 'data', None)
    """
    same = [other for group in SAME_ELSEWHERE if name in group for other in group if other in names]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return next(iter([*same, *near]), None)


def _check_file(parser: _SettingsParser, schema: type, file: str) -> None:
    """Refuses a file that names no field or gives it a value of another type."""
    for name, value, where in read_settings(file):
        _check_setting(parser, schema, name, value, where=f"{where}: ")


def _check_setting(parser: _SettingsParser, schema: type, name: str, value: Any, *, where: str) -> None:
    _check_name(name, _names(schema), where=where)
    try:
        parser.validate(jsonargparse.Namespace({name: value}), skip_unset=False, skip_required=True)
    except TypeError as error:
        raise InputError(_wrong_type(schema, name, repr(value), where)) from error


def _one_line(schema: type, message: str) -> str:
    """A message of the library about the command line, in the words of every other error here."""
    key = re.search(r'Parser key "(\w+)"', message)
    value = re.search(r"value: (.*)$", message, re.DOTALL)
    if key and value:
        return _wrong_type(schema, key[1], repr(value[1]), where="--")
    required = message.removeprefix("the following arguments are required: ")
    if required != message:
        return f"--{required.replace(', ', ', --')}: required, pass a value (run with --help to see all)"
    unknown = message.removeprefix("unrecognized arguments: ")
    if unknown != message:
        return f"{unknown}: belongs to no setting, expected pairs of --field value (run with --help to see all)"
    return message.removeprefix("argument ")


def _wrong_type(schema: type, name: str, found: str, where: str = "") -> str:
    return f"{where}{name} is {found}, expected {_type_name(typing.get_type_hints(schema)[name])}"


def _type_name(kind: Any) -> str:
    """A type as a user would say it.

    >>> _type_name(str | None), _type_name(typing.Literal["lora", "full"]), _type_name(dict[str, Any])
    ('str or null', 'one of lora, full', 'a mapping of names to values')
    """
    if kind is type(None):
        return "null"
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is dict:
        return "a mapping of names to values"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def _names(schema: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(schema)]
