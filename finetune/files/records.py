"""Records from a file, a folder or the Hub, each with the place that an error can name.

=======================================  ======================================================
``.jsonl``, ``.json``                    one JSON object per line; one list of objects
``.parquet``, ``.arrow``, ``.csv``       tables; so is ``.tsv``
``.gz`` or ``.zst`` behind these         JSON and CSV, unpacked while they are read
a folder                                 its data files in the order of their names
``owner/name:configuration@split``       a data set on the Hub
`RowsInMemory`                           rows that a program gave, see `rows_in_memory`
=======================================  ======================================================

Everything here distrusts the file: it may be a device, a renamed archive, text in another encoding, one endless line,
or unpack to a terabyte.
"""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from configs import InputError, MissingInput
from finetune.files.folders import files_of_folder
from finetune.files.hub_sets import read_hub
from finetune.files.json_files import read_lines, read_list
from finetune.files.rows_in_memory import RowsInMemory
from finetune.files.tables import read_arrow, read_csv, read_parquet, read_tsv
from scratch_models.documents.compressed import COMPRESSIONS, open_compressed
from scratch_models.documents.json_values import kind_of, parse_json
from tokenizer_ext.huggingface.hub_names import dataset_on_hub
from tokenizer_ext.pages.progress import progress

Item = TypeVar("Item")
Reader = Callable[[BinaryIO, str], Iterator[tuple[str, object]]]

TEXT_READERS: dict[str, Reader] = {".jsonl": read_lines, ".json": read_list, ".csv": read_csv, ".tsv": read_tsv}
READERS = {**TEXT_READERS, ".parquet": read_parquet, ".arrow": read_arrow}
SUFFIXES = (*READERS, *(suffix + packed for suffix in TEXT_READERS for packed in COMPRESSIONS))
RECORDS_BETWEEN_STATES = 1000
MOST_COUNTED = 10_000
"""Records that cannot be used are counted up to here; then the rest of the file is not looked at."""
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


def read_records(data: str) -> Iterator[tuple[str, object]]:
    """Each record of `data` with its place, still unread where it is a line: `parse_record` gives the object.

    Raises:
        InputError: there is nothing that could be read.

    """
    if isinstance(data, RowsInMemory):
        return data.records()
    files = local_files(data)
    if files is None:
        on_hub = dataset_on_hub(data)
        assert on_hub is not None
        return read_hub(on_hub)
    if len(files) == 1:
        return _read_file(files[0], _mode(files[0]))
    return (one for file in files for one in _read_file(file, _mode(file)))


def local_files(data: str) -> list[Path] | None:
    """The files that the name of data means, which may be missing; None where it means rows in memory or the Hub.

    Raises:
        InputError: a folder has no data file, or several splits of which none is named.

    """
    if isinstance(data, RowsInMemory):
        return None
    path, split = Path(data).expanduser(), None
    mode = _mode(path)
    if mode is None and "@" in path.name:
        whole, _, name = str(path).rpartition("@")
        if (of_whole := _mode(Path(whole))) is not None and stat.S_ISDIR(of_whole):
            path, split, mode = Path(whole), name, of_whole
    if mode is None and dataset_on_hub(data):
        return None
    return files_of_folder(path, SUFFIXES, split) if mode is not None and stat.S_ISDIR(mode) else [path]


def read_each(data: str, parse: Callable[[dict[str, object], str], Item], what: str) -> Iterator[Item]:
    """What `parse` makes of every record of `data` and its place; nothing is skipped. `what` they are called.

    After a record that cannot be used nothing more is given: the others are only looked at, to count those like it.

    Raises:
        InputError: a record cannot be used; place and field of the first one, and the number of others.

    """
    first: InputError | None = None
    found = others = 0
    for place, record in shown_records(data, what):
        try:
            item = parse(parse_record(place, record), place)
        except InputError as error:
            first, others = first or error, others + (first is not None)
            if others == MOST_COUNTED:
                raise InputError(f"{first} (and {others:,} more or above)") from None
            continue
        found += 1
        if first is None:
            yield item
    if first is not None:
        raise InputError(f"{first} (and {others:,} more)" if others else str(first))
    if not found:
        raise InputError(f"{data}: found 0 {what}, expected at least one JSON object")


def shown_records(data: str, what: str) -> Iterator[tuple[str, object]]:
    """The records, with a bar that says how many are read, of how many MB where the size of what is read tells."""
    size = _bytes_of_lines(data)
    with progress(f"reading the {what}", None if size is None else size >> 20, "MB") as bar:
        read = 0
        for number, (place, record) in enumerate(read_records(data), 1):
            read += len(record) + 1 if isinstance(record, bytes) else 0
            if number % RECORDS_BETWEEN_STATES == 0:
                bar.set_postfix_str(f"{number:,} {what}", refresh=False)
                bar.update(min(read >> 20, bar.total) - bar.n if bar.total else 0)
            yield place, record


def read_all(data: str, parse: Callable[[dict[str, object], str], Item], what: str) -> list[Item]:
    """The same as a list."""
    return list(read_each(data, parse, what))


def parse_record(place: str, record: object) -> dict[str, object]:
    """The JSON object of a record.

    >>> parse_record("chat.jsonl:1", b'{"question": "1+1?", "answer": "2"}')
    {'question': '1+1?', 'answer': '2'}

    Raises:
        InputError: a line is no UTF-8, no JSON, or no object.

    """
    value = parse_json(place, record) if isinstance(record, bytes) else record
    if not isinstance(value, dict):
        raise InputError(f'{place}: found {kind_of(value)}, expected a JSON object such as {{"messages": [...]}}')
    return value


def _mode(path: Path) -> int | None:
    """What kind of file `path` is, None where there is none."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, links in a circle, a folder closed to us
        raise InputError(f"{str(path)[:80]!r}: cannot be looked up ({error}), expected the path of a file") from None


def _bytes_of_lines(data: str) -> int | None:
    """The size of a file of lines, whose records are as long as they are."""
    path = Path(data).expanduser()
    mode = None if isinstance(data, RowsInMemory) else _mode(path)
    is_lines = mode is not None and stat.S_ISREG(mode) and path.suffix.lower() == ".jsonl"
    return path.stat().st_size if is_lines else None


def _read_file(path: Path, mode: int | None) -> Iterator[tuple[str, object]]:
    suffix = next((one for one in SUFFIXES if path.name.lower().endswith(one)), "")
    _refuse_what_is_no_file(path, mode)
    if not suffix:
        raise InputError(
            f"{path}: ends in {path.suffix or 'nothing'}, expected .jsonl (one JSON object per line) or one of "
            f"{', '.join(one for one in SUFFIXES if one != '.jsonl')}"
        )
    if suffix in TEXT_READERS:
        _refuse_what_is_no_text(path)
    return _read_open(path, suffix)


def _read_open(path: Path, suffix: str) -> Iterator[tuple[str, object]]:
    kind = suffix.removesuffix(".gz").removesuffix(".zst")
    with path.open("rb") if kind == suffix else open_compressed(path) as file:
        yield from READERS[kind](file, str(path))


def _refuse_what_is_no_file(path: Path, mode: int | None) -> None:
    if mode is None:
        raise MissingInput(
            f"{path}: no such file, expected a .jsonl, .json, .parquet, .arrow or .csv file, a folder of them, or the "
            "name of a data set on the Hub"
        )
    if not stat.S_ISREG(mode):  # reading from a pipe or from /dev/zero might never end
        raise InputError(f"{path}: is a device or a pipe, expected a regular file; write its content to a .jsonl file")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected a readable file") from None


def _refuse_what_is_no_text(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(16)
    for foreign_start, kind in FOREIGN_STARTS.items():
        if start.startswith(foreign_start):
            raise InputError(
                f"{path}: looks like {kind}, expected UTF-8 text; give it the suffix of what it is, or convert it to "
                ".jsonl, one object per line"
            )
