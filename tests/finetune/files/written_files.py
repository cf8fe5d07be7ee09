"""The same records written as every kind of file that is read, by the libraries whose formats they are."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

Record = dict[str, Any]


def as_lines(records: Sequence[Record]) -> bytes:
    """JSON, one object per line."""
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def as_list(records: Sequence[Record]) -> bytes:
    """A JSON list."""
    return json.dumps(list(records), indent=1).encode()


def as_csv(records: Sequence[Record]) -> bytes:
    """CSV, lists as JSON text."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for record in records for key in record)))
    writer.writeheader()
    for record in records:
        writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in record.items()})
    return text.getvalue().encode()


def _write_zst(path: Path, content: bytes) -> None:
    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        file.write(content)


def _write_arrow(path: Path, records: Sequence[Record], opened: Callable[..., Any]) -> None:
    table = pyarrow.Table.from_pylist(list(records))
    with opened(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def _write_folder(folder: Path, records: Sequence[Record]) -> None:
    (folder / "data").mkdir(parents=True)
    half = len(records) // 2
    table = pyarrow.Table.from_pylist(list(records))
    pyarrow.parquet.write_table(table.slice(0, half), folder / "data" / "train-00000-of-00002.parquet")
    pyarrow.parquet.write_table(table.slice(half), folder / "data" / "train-00001-of-00002.parquet")
    (folder / "README.md").write_text("# Chats")


WRITERS: dict[str, Callable[[Path, Sequence[Record]], object]] = {
    "chats.jsonl": lambda path, records: path.write_bytes(as_lines(records)),
    "chats.json": lambda path, records: path.write_bytes(as_list(records)),
    "chats.csv": lambda path, records: path.write_bytes(as_csv(records)),
    "chats.parquet": lambda path, records: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path),
    "chats.arrow": lambda path, records: _write_arrow(path, records, pyarrow.ipc.new_file),
    "stream.arrow": lambda path, records: _write_arrow(path, records, pyarrow.ipc.new_stream),
    "chats.jsonl.gz": lambda path, records: path.write_bytes(gzip.compress(as_lines(records))),
    "chats.json.gz": lambda path, records: path.write_bytes(gzip.compress(as_list(records))),
    "chats.csv.gz": lambda path, records: path.write_bytes(gzip.compress(as_csv(records))),
    "chats.jsonl.zst": lambda path, records: _write_zst(path, as_lines(records)),
    "folder": _write_folder,
    "saved": lambda path, records: datasets.Dataset.from_list(list(records)).save_to_disk(str(path)),
}
