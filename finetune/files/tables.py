"""Tables: Parquet, Arrow (as a file, or as the stream that `datasets` keeps) and CSV, row by row.

In a table every row has every column, so a value that is null says no more than a key that is absent. A cell of a CSV
file is text, or nothing where it is empty; lists of messages stand in it as JSON.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

from configs import InputError
from configs.errors import first_line
from finetune.files.json_files import MAXIMUM_LINE_BYTES
from scratch_models.documents.json_values import kind_of, parse_json, without_nulls

ROWS_AT_ONCE = 1024
LISTS = ("messages", "conversations", "history", "choices", "completions")
NUMBERS = re.compile("weight|(score|rating|reward)[_-](chosen|rejected)|(chosen|rejected)[_-](score|rating|reward)")
LISTS_OR_TEXT = ("prompt", "completion", "chosen", "rejected")


def read_parquet(file: BinaryIO, name: str) -> Iterator[tuple[str, object]]:
    """Each row of a Parquet file with its place.

    Raises:
        InputError: it is no Parquet file, or a damaged one.

    """
    import pyarrow.parquet

    return _read_batches(lambda: pyarrow.parquet.ParquetFile(file).iter_batches(ROWS_AT_ONCE), name, "Parquet")


def read_arrow(file: BinaryIO, name: str) -> Iterator[tuple[str, object]]:
    """Each row of an Arrow file with its place.

    Raises:
        InputError: it is no Arrow file, or a damaged one.

    """
    import pyarrow

    def batches() -> Iterator[Any]:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        if not is_file:
            yield from pyarrow.ipc.open_stream(file)
            return
        reader = pyarrow.ipc.open_file(file)
        yield from map(reader.get_batch, range(reader.num_record_batches))

    return _read_batches(batches, name, "Arrow")


def _read_batches(batches: Any, name: str, kind: str) -> Iterator[tuple[str, object]]:
    import pyarrow

    number = 0
    try:
        for batch in batches():
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                for row in batch.slice(start, ROWS_AT_ONCE).to_pylist():
                    yield f"{name}[{number}]", {key: without_nulls(value) for key, value in row.items()}
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name}: not readable as {kind} behind row {number} ({first_line(error)})") from None


def read_csv(file: BinaryIO, name: str, delimiter: str = ",") -> Iterator[tuple[str, object]]:
    """Each row of a CSV file with a line of names above; its place is the line on which it begins.

    Raises:
        InputError: a quote is broken, a row has more or fewer cells than there are names, or it is no UTF-8.

    """
    csv.field_size_limit(MAXIMUM_LINE_BYTES)
    rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    begins = 1
    try:
        for row in rows:
            place, begins = f"{name}:{begins}", rows.line_num + 1
            if columns is None:
                columns = _read_header(row, place)
            elif row:
                yield place, _read_row(columns, row, place)
    except csv.Error as error:
        raise InputError(
            f"{name}:{begins}: the row that begins here is no CSV ({first_line(error)}): quote a cell that holds a "
            'quote, a comma or a line break, and write a quote in it twice ("")'
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: byte 0x{error.object[error.start]:02x} behind line {begins - 1} is not UTF-8"
        ) from None


read_tsv = partial(read_csv, delimiter="\t")


def _read_header(row: list[str], place: str) -> list[str]:
    if len(set(row)) < len(row):
        raise InputError(f"{place}: the column {_first_twice(row)!r} appears twice")
    return row


def _first_twice(names: Iterable[str]) -> str:
    names = list(names)
    return next(name for name in names if names.count(name) > 1)


def _read_row(columns: list[str], row: list[str], place: str) -> dict[str, object]:
    if len(row) != len(columns):
        raise InputError(
            f"{place}: {len(row)} cells, expected {len(columns)} as in the first line ({', '.join(columns)})"
        )
    return {column: _read_cell(column, cell, place) for column, cell in zip(columns, row, strict=True)}


def _read_cell(column: str, cell: str, place: str) -> object:
    if not cell:
        return None
    if column in LISTS:
        value = parse_json(f"{place}, {column}", cell.encode("utf-8", "surrogatepass"))
        if not isinstance(value, list):
            raise InputError(f"{place}: {column} is {kind_of(value)}, expected a list as JSON text")
        return value
    if NUMBERS.fullmatch(column):
        return _read_number(cell)
    if column in LISTS_OR_TEXT and cell.startswith("[{") and '"role"' in cell:
        return parse_json(f"{place}, {column}", cell.encode("utf-8", "surrogatepass"))
    return cell


def _read_number(cell: str) -> object:
    """The number that a cell holds; whoever expects one names what is none."""
    try:
        return float(cell)
    except ValueError:
        return cell
