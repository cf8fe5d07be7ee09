"""The documents of a corpus, read as a stream, so that it may be larger than memory.

=========================================  ========================================================
``.jsonl``                                 a document a line: the key ``text``, else ``content``
``.parquet``                               a document a row: the column of the same name
``.txt``, and any other file named alone   one document
``.gz`` or ``.zst`` behind these           the same, unpacked while it is read (a Parquet file packs itself)
a folder                                   its files of these kinds in the order of their names
=========================================  ========================================================
"""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from configs import InputError, MissingInput
from configs.errors import first_line
from scratch_models.documents.compressed import COMPRESSIONS, open_compressed
from scratch_models.documents.json_values import kind_of, parse_json, read_text

FIELDS = ("text", "content")
KINDS = (".txt", ".jsonl", ".parquet")
SUFFIXES = (*KINDS, *(kind + packed for kind in KINDS[:2] for packed in COMPRESSIONS))
BYTES_AT_ONCE = 2**20
LONGEST_PIECE = 4 * 2**20
"""Characters after which a text is cut wherever it is; before, only where a line begins."""
LONGEST_DOCUMENT = 64 * 2**20
"""Bytes of a line, or characters of a document that is looked at as a whole."""
ROWS_AT_ONCE = 256


class Piece(NamedTuple):
    """A piece of a document, which a long one has several of."""

    text: str
    ends: bool
    """Whether the document ends with it."""


def corpus_files(data: str) -> list[Path]:
    """The files that the name of a corpus means: itself, or those of a folder.

    Raises:
        InputError: there is none, or it is empty.

    """
    path = Path(data).expanduser()
    if not path.exists():
        raise MissingInput(f"{data}: no such file, expected text in UTF-8, .jsonl, .parquet, or a folder of them")
    if not path.is_dir():
        if path.stat().st_size == 0:  # in a folder it is one document without a text, which is counted
            raise InputError(f"{data}: is empty, expected text")
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and file.name.lower().endswith(SUFFIXES)
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise InputError(f"{data}: is a folder without a file to read, expected some in {', '.join(SUFFIXES)}")
    return files


def is_one_text(files: Iterable[Path]) -> bool:
    """Whether they are one file that is one document.

    >>> is_one_text([Path("a.txt")]), is_one_text([Path("a.jsonl.gz")]), is_one_text([Path("a.txt"), Path("b.txt")])
    (True, False, False)
    """
    return [_kind(file) for file in files] == [".txt"]


def read_pieces(files: Iterable[Path]) -> Iterator[Piece]:
    """The documents of the files in pieces; those without a text are read too.

    Raises:
        InputError: a file cannot be read, or holds something that is no document.

    """
    for path in files:
        if _kind(path) == ".parquet":
            yield from _read_parquet(path)
            continue
        with open_compressed(path) if path.suffix.lower() in COMPRESSIONS else path.open("rb") as file:
            yield from _read_lines(file, path) if _kind(path) == ".jsonl" else _read_one_text(file, path)


def whole_documents(pieces: Iterable[Piece]) -> Iterator[str]:
    """The documents, each in one.

    Raises:
        InputError: one of them is too long for that.

    """
    held: list[str] = []
    characters = 0
    for piece in pieces:
        held.append(piece.text)
        characters += len(piece.text)
        if characters > LONGEST_DOCUMENT:
            raise InputError(
                f"document that begins with {held[0][:40]!r}: is longer than {LONGEST_DOCUMENT:,} characters, which is "
                "too long for filters: leave them out, or put one document a line into a .jsonl file"
            )
        if piece.ends:
            yield "".join(held)
            held, characters = [], 0


def _kind(path: Path) -> str:
    name = path.name.lower()
    unpacked = name.rpartition(".")[0] if path.suffix.lower() in COMPRESSIONS else name
    return next((kind for kind in KINDS if unpacked.endswith(kind)), ".txt")


def _read_one_text(file: BinaryIO, path: Path) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    held, read = "", 0
    while True:
        content = file.read(BYTES_AT_ONCE)
        pending = len(decoder.getstate()[0])
        try:
            held += decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            place = read - pending + error.start
            byte = error.object[error.start]
            raise InputError(
                f"{path}: byte {place} is 0x{byte:02x}, expected text in UTF-8: convert the file first"
            ) from None
        read += len(content)
        if not content:
            yield Piece(held, ends=True)
            return
        end = _last_line_start(held)
        if end:
            yield Piece(held[:end], ends=False)
            held = held[end:]


def _last_line_start(text: str) -> int:
    r"""Where the last line begins that starts with no space, 0 where none does; no token of a BPE reaches over it.

    >>> _last_line_start("one\ntwo\n\n  three"), _last_line_start("one")
    (4, 0)
    """
    if len(text) > LONGEST_PIECE:
        return len(text)
    end = len(text)
    while (end := text.rfind("\n", 0, end)) >= 0:
        if end + 1 < len(text) and not text[end + 1].isspace():
            return end + 1
    return 0


def _read_lines(file: BinaryIO, path: Path) -> Iterator[Piece]:
    number = 0
    while line := file.readline(LONGEST_DOCUMENT + 1):
        number += 1
        if len(line) > LONGEST_DOCUMENT:
            raise InputError(f"{path}:{number}: line is longer than {LONGEST_DOCUMENT:,} bytes, expected one document")
        if not line.strip():
            continue
        place = f"{path}:{number}"
        record = parse_json(place, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
        if not isinstance(record, dict):
            raise InputError(f'{place}: found {kind_of(record)}, expected a JSON object such as {{"text": "..."}}')
        field = _field(record, place)
        yield Piece(read_text(record[field], place, field), ends=True)


def _read_parquet(path: Path) -> Iterator[Piece]:
    import pyarrow.parquet

    row = 0
    try:
        file = pyarrow.parquet.ParquetFile(path)
        field = _field(file.schema_arrow.names, str(path))
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[field]):
            for text in batch.column(0).to_pylist():
                yield Piece(read_text(text, f"{path}[{row}]", field), ends=True)
                row += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not readable as Parquet behind row {row} ({first_line(error)})") from None


def _field(names: Iterable[str], place: str) -> str:
    names = list(names)
    found = [field for field in FIELDS if field in names]
    if not found:
        raise InputError(f"{place}: has {', '.join(names) or 'nothing'}, expected a text under {' or '.join(FIELDS)}")
    return found[0]
