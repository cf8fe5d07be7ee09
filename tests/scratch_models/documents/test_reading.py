"""The documents of a corpus come out of every kind of file as they went in, however large it is."""

import gzip
import json
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import InputError, MissingInput
from scratch_models.documents import reading
from scratch_models.documents.reading import corpus_files, read_pieces, whole_documents

TEXTS = [*(text.strip() for text in list(topics.values())[:12]), "é 漢 😀\r\nline two", "  "]


def documents_of(path: Path) -> list[str]:
    return list(whole_documents(read_pieces(corpus_files(str(path)))))


def as_lines(field: str) -> bytes:
    return "\n\n".join(json.dumps({"id": 3, field: text}, ensure_ascii=False) for text in TEXTS).encode()


def write_zstandard(path: Path, content: bytes) -> None:
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as file:
        file.write(content)


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"] * len(TEXTS), "text": TEXTS}), path, row_group_size=3)


KINDS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(as_lines("text")),
    "b.jsonl": lambda path: path.write_bytes(as_lines("content")),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(as_lines("text"))),
    "a.JSONL.zst": lambda path: write_zstandard(path, as_lines("text")),
    "a.parquet": write_parquet,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_documents_that_were_written(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name)
    assert documents_of(tmp_path / name) == TEXTS


def test_a_folder_gives_the_documents_of_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.txt").write_text("hidden")
    (tmp_path / "README.md").write_text("no corpus")
    (tmp_path / "b" / "empty.txt").touch()
    (tmp_path / "a.txt").write_text("first\n", encoding="utf-8")
    (tmp_path / "b" / "c.txt.gz").write_bytes(gzip.compress("second é".encode()))
    KINDS["a.parquet"](tmp_path / "c.parquet")
    assert documents_of(tmp_path) == ["first\n", "second é", "", *TEXTS]


@given(st.text(alphabet="a é漢\n\r😀", min_size=1), st.integers(1, 9), st.integers(2, 30))
def test_a_text_is_the_same_in_pieces_which_are_cut_where_a_line_begins(text: str, size: int, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(reading, "BYTES_AT_ONCE", size)
        patch.setattr(reading, "LONGEST_PIECE", longest)
        path = Path(folder, "text.txt")
        path.write_bytes(text.encode())
        pieces = list(read_pieces([path]))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.ends for piece in pieces] == [*[False] * (len(pieces) - 1), True]
    for before, after in pairwise(pieces):
        at_line = before.text.endswith("\n") and not after.text[:1].isspace()
        assert at_line or len(before.text) > longest or not after.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"title": "y"}', r"a\.jsonl:2: has title, expected a text under text or content"),
        ("a.jsonl", b'{"text": "x"}\n[1]', r"a\.jsonl:2: found a list, expected a JSON object"),
        ("a.jsonl", b'{"text": 3}', r"a\.jsonl:1: text is a number, expected text"),
        ("a.jsonl", b'{"text": "x"', r"a\.jsonl:1: not JSON"),
        ("a.jsonl", b"", r"a\.jsonl: is empty"),
        ("a.txt", b"caf\xc3\xa9 caf\xe9 noir", r"a\.txt: byte 9 is 0xe9, expected text in UTF-8"),
        ("a.parquet", b"PAR1 no more", r"a\.parquet: not readable as Parquet behind row 0"),
        ("a.txt.gz", b"no gzip", r"a\.txt\.gz: cannot be unpacked"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        documents_of(tmp_path / name)


def test_a_table_without_a_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "body": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has url, body, expected a text under text or content"):
        documents_of(tmp_path / "a.parquet")


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="no such file"):
        corpus_files(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="is a folder without a file to read"):
        corpus_files(str(tmp_path))


def test_a_document_too_long_to_be_looked_at_as_a_whole_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_DOCUMENT", 100)
    (tmp_path / "a.txt").write_text("word " * 30)
    with pytest.raises(InputError, match=r"document that begins with 'word word .* longer than 100 characters"):
        documents_of(tmp_path / "a.txt")
