"""The arguments of a command before its settings are read from them."""

import argparse
import typing
from collections.abc import Sequence
from itertools import pairwise

from configs.errors import InputError


def split_files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of every ``--config``, and all other arguments in their order."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    try:
        known, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise InputError(f"--config: {error.message}, the path of a YAML file") from error
    return known.config, others


def name_first(schema: type, pairs: Sequence[str]) -> list[str]:
    """The arguments with the field before a first word that has none, where the schema says by `FIRST` which it is.

    >>> class Inspect:
    ...     FIRST = "data"
    >>> name_first(Inspect, ["chats.jsonl", "--output", "a.json"]), name_first(Inspect, ["--data", "chats.jsonl"])
    (['--data', 'chats.jsonl', '--output', 'a.json'], ['--data', 'chats.jsonl'])
    """
    first = getattr(schema, "FIRST", None)
    return [f"--{first}", *pairs] if first and pairs and not pairs[0].startswith("-") else list(pairs)


def set_bare_keys(pairs: Sequence[str]) -> list[str]:
    """The arguments with `--field.key` as `--field.key=true` where no value follows, as a bare flag is of a bool.

    >>> set_bare_keys(["--options.a", "--options.b", "-1", "--options.c"]), set_bare_keys([])
    (['--options.a=true', '--options.b', '-1', '--options.c=true'], [])
    """
    following = [*pairs[1:], "--"]
    return [
        f"{one}=true" if one.startswith("--") and "." in one and "=" not in one and after.startswith("--") else one
        for one, after in zip(pairs, following, strict=False)
    ]


def take_several(schema: type, pairs: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The fields that may be lists and are followed by several values, and all other arguments."""
    kinds = typing.get_type_hints(schema)
    lists = {name for name, kind in kinds.items() if list[str] in typing.get_args(kind)}
    starts = [place for place, one in enumerate(pairs) if one.startswith("--")]
    several, others = dict[str, list[str]](), list(pairs[: starts[0] if starts else len(pairs)])
    for start, end in pairwise([*starts, len(pairs)]):
        name, values = pairs[start].removeprefix("--"), list(pairs[start + 1 : end])
        several.pop(name.partition("=")[0], None)  # the last one wins
        if name in lists and len(values) > 1:
            several[name] = values
        else:
            others += pairs[start:end]
    return several, others
