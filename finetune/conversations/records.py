"""JSON records from a file or from the Hub, each with the place that an error can name.

A ``.jsonl`` file holds one JSON object per line, a ``.json`` file one list of objects. Everything here distrusts the
file: it may be a folder, a device, a renamed archive, text in another encoding, or one endless line.
"""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from configs import InputError, MissingInput
from configs.errors import first_line
from tokenizer_ext.huggingface.hub_names import dataset_on_hub

Item = TypeVar("Item")

MAXIMUM_LINE_BYTES = 16 * 2**20
UTF8_MARK = b"\xef\xbb\xbf"
FOREIGN_STARTS = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
    b"SQLite format 3": "an SQLite file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}

type_names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text"}
type_names |= {list: "a list", dict: "an object"}


def read_records(data: str) -> Iterator[tuple[str, object]]:
    """Each record of `data` with its place, still unread where it is a line: `parse_record` gives the object.

    `data` is a ``.jsonl`` or ``.json`` file, or a data set on the Hub (``owner/name`` or ``owner/name:configuration``),
    of which the split ``train`` is read.

    Raises:
        InputError: there is nothing that could be read.

    """
    path = Path(data).expanduser()
    mode = _mode(path)
    on_hub = dataset_on_hub(data)
    if mode is None and on_hub:
        return _read_hub(*on_hub)
    _refuse_what_is_no_text_file(path, mode)
    if path.suffix.lower() not in FILE_READERS:
        raise InputError(
            f"{path}: ends in {path.suffix or 'nothing'}, expected .jsonl (one JSON object per line) or .json"
        )
    return FILE_READERS[path.suffix.lower()](path)


def read_all(data: str, parse: Callable[[dict[str, object], str], Item], what: str) -> list[Item]:
    """What `parse` makes of every record of `data` and its place; nothing is skipped. `what` they are called.

    Raises:
        InputError: a record cannot be used; place and field of the first one, and the number of others.

    """
    items: list[Item] = []
    errors: list[InputError] = []
    for place, record in read_records(data):
        try:
            items.append(parse(parse_record(place, record), place))
        except InputError as error:
            errors.append(error)
    if errors:
        others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0]}{others}")
    if not items:
        raise InputError(f"{data}: found 0 {what}, expected at least one JSON object")
    return items


def parse_record(place: str, record: object) -> dict[str, object]:
    """The JSON object of a record.

    >>> parse_record("chat.jsonl:1", b'{"question": "1+1?", "answer": "2"}')
    {'question': '1+1?', 'answer': '2'}

    Raises:
        InputError: a line is no UTF-8, no JSON, or no object.

    """
    value = _parse_json(place, record) if isinstance(record, bytes) else record
    if not isinstance(value, dict):
        raise InputError(
            f'{place}: found {type_names[type(value)]}, expected a JSON object such as {{"messages": [...]}}'
        )
    return value


def kind_of(value: object) -> str:
    """What a value is, in JSON's words.

    >>> kind_of(None), kind_of([])
    ('null', 'a list')
    """
    return type_names.get(type(value), type(value).__name__)


def read_text(value: object, place: str, field: str) -> str:
    """The value, which must be text that can be written as UTF-8.

    Raises:
        InputError: it is not; it begins with `place`.

    """
    if not isinstance(value, str):
        raise InputError(f"{place}: {field} is {kind_of(value)}, expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"\\u{ord(value[error.start]):04x}"
        raise InputError(f"{place}: {field} holds half a surrogate pair ({found}) at character {error.start}") from None
    return value


def _mode(path: Path) -> int | None:
    """What kind of file `path` is, None where there is none."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, links in a circle, a folder closed to us
        raise InputError(f"{str(path)[:80]!r}: cannot be looked up ({error}), expected the path of a file") from None


def _refuse_what_is_no_text_file(path: Path, mode: int | None) -> None:
    if mode is None:
        raise MissingInput(
            f"{path}: no such file, expected a .jsonl or .json file, or the name of a data set on the Hub"
        )
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder, expected a .jsonl file")
    if not stat.S_ISREG(mode):  # reading from a pipe or from /dev/zero might never end
        raise InputError(f"{path}: is a device or a pipe, expected a regular file; write its content to a .jsonl file")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected a readable .jsonl file") from None
    for foreign_start, kind in FOREIGN_STARTS.items():
        if start.startswith(foreign_start):
            raise InputError(
                f"{path}: looks like {kind}, expected UTF-8 text; convert it to .jsonl, one object per line"
            )


def _read_lines(path: Path) -> Iterator[tuple[str, object]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAXIMUM_LINE_BYTES + 1):
            number += 1
            if len(line) > MAXIMUM_LINE_BYTES:
                limit = MAXIMUM_LINE_BYTES // 2**20
                raise InputError(
                    f"{path}:{number}: line is longer than {limit} MiB, expected one conversation per line"
                )
            line = line.removeprefix(UTF8_MARK) if number == 1 else line
            if line.strip():
                yield f"{path}:{number}", line.rstrip()


def _read_list(path: Path) -> Iterator[tuple[str, object]]:
    content = path.read_bytes().removeprefix(UTF8_MARK)
    if not content.strip():
        return
    records = _parse_json(str(path), content)
    if not isinstance(records, list):
        found = type_names[type(records)]
        raise InputError(
            f"{path}: found {found}, expected a list of objects; one object per line goes into a .jsonl file"
        )
    yield from ((f"{path}[{index}]", record) for index, record in enumerate(records))


def _parse_json(place: str, content: bytes) -> object:
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise InputError(f"{place}: byte 0x{byte:02x} at offset {error.start} is not UTF-8, save it as UTF-8") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if b"\n" in content else ""
        raise InputError(f"{place}: not JSON ({line}column {error.colno}: {error.msg})") from None
    except RecursionError:
        raise InputError(f"{place}: nested too deep to read, expected an object with text in it") from None
    except ValueError as error:  # a key twice, or a number with thousands of digits
        raise InputError(f"{place}: not usable JSON ({error})") from None


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The object of `pairs`; json would keep the last of two values of one key and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return found


def _read_hub(name: str, configuration: str | None) -> Iterator[tuple[str, object]]:
    advice = "a .jsonl file can be passed instead"
    try:
        import datasets
        import huggingface_hub
    except ImportError:
        raise InputError(
            f"{name}: no such file, and reading it from the Hub needs `pip install 'graft-lm[hub]'`; {advice}"
        ) from None
    try:
        # `datasets` would retry for half a minute before it says that there is no network; this asks once.
        if not huggingface_hub.is_offline_mode():
            huggingface_hub.HfApi().dataset_info(name, timeout=10)
        rows = datasets.load_dataset(name, configuration, split="train")
    except Exception as error:  # whatever the network, the Hub or its files did: the answer is the same
        raise InputError(f"{name}: no such file, and not loaded from the Hub ({first_line(error)}); {advice}") from None
    return ((f"{name}[{index}]", row) for index, row in enumerate(rows))


FILE_READERS = {".jsonl": _read_lines, ".json": _read_list}
