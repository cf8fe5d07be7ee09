"""Files that were uploaded: each in a folder of its own under a name of ours, read through once before it counts.

    files/file-1f.../content.jsonl   as it came
    files/file-1f.../file.json       what the client called it, what it holds, and how much

A folder begins with a dot until its file is whole and was read; a kill leaves nothing that counts as a file.
"""

import asyncio
import hashlib
import json
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from configs import InputError
from configs.disk_space import check_space
from configs.whole_folder import remove_whole
from finetune.conversations.formats import each_conversation
from finetune.conversations.pairs import is_pair, read_pairs
from finetune.conversations.questions import read_asked
from finetune.files.records import parse_record, read_records
from scratch_models.corpus.text_files import read_text
from tokenizer_ext.pages.terminal import printable

FileKind = Literal["conversations", "pairs", "choices", "text"]
FILE_ID = re.compile(r"file-[0-9a-f]{24}")
RECORD, SUFFIXES, TEXT = "file.json", (".jsonl", ".json", ".csv", ".tsv"), ".txt"
"""Packed files and tables are not taken: a few bytes of one unpack to a terabyte."""
SHOWN_NAME = 80


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """An uploaded file."""

    id: str
    name: str
    """What the client called it: shown, and never part of a path."""
    purpose: str
    suffix: str
    bytes: int
    created_at: int
    """Unix seconds."""
    kind: FileKind
    records: int
    """Conversations, pairs or questions; of a text its lines."""
    sha256: str


class FileStore:
    """The uploaded files of a service."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def get(self, file_id: str) -> StoredFile:
        """The file of this id.

        Raises:
            InputError: there is none.
        """
        path = self.folder / file_id / RECORD
        if not FILE_ID.fullmatch(file_id) or not path.is_file():
            raise InputError(f"file {printable(file_id)[:SHOWN_NAME]}: no such file, expected the id of an upload")
        return StoredFile(**json.loads(path.read_text(encoding="utf-8")))

    def path_of(self, file: StoredFile) -> Path:
        """Where its content lies."""
        return self.folder / file.id / f"content{file.suffix}"

    def all(self) -> list[StoredFile]:
        """All files, the newest first."""
        found = [self.get(path.name) for path in self.folder.iterdir() if FILE_ID.fullmatch(path.name)]
        return sorted(found, key=lambda file: (file.created_at, file.id), reverse=True)

    def delete(self, file_id: str) -> None:
        """Removes a file.

        Raises:
            InputError: there is none.
        """
        remove_whole(self.folder / self.get(file_id).id)

    def keep_text(self, name: str, text: str, purpose: str) -> StoredFile:
        """A text as a file; one of the same content that is there already is not kept twice.

        Raises:
            InputError: it holds nothing that can be used, or is too long.
        """
        content = text.encode()
        digest, suffix = hashlib.sha256(content).hexdigest(), _suffix_of(name)

        async def parts() -> AsyncIterator[bytes]:
            yield content

        known = next((file for file in self.all() if (file.sha256, file.suffix) == (digest, suffix)), None)
        if known is not None:
            return known
        with ThreadPoolExecutor(1) as thread:  # whether or not an event loop runs in this one
            return thread.submit(asyncio.run, self.receive(name, parts())).result().keep(purpose)

    async def receive(self, name: str, parts: AsyncIterator[bytes]) -> "Received":
        """Writes a file as it arrives, never more than may be.

        Raises:
            InputError: its name ends in none of the suffixes, or it is empty or too long.
            FullDisk: the disk has no room for it.
        """
        suffix = _suffix_of(name)
        partial = self.folder / f".partial-{secrets.token_hex(8)}"
        partial.mkdir()
        try:
            digest, length = hashlib.sha256(), 0
            with (partial / f"content{suffix}").open("wb") as content:
                async for part in parts:
                    length += len(part)
                    if length > self.most_bytes:
                        raise InputError(f"file: is longer than the {self.most_bytes:,} bytes that an upload may have")
                    check_space(partial, len(part))
                    digest.update(part)
                    content.write(part)
            if not length:
                raise InputError("file: is empty, expected conversations, pairs or text")
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Received(self, partial, name, suffix, length, digest.hexdigest())


@dataclass(frozen=True)
class Received:
    """A file that has arrived whole and was not read yet."""

    store: FileStore
    partial: Path
    name: str
    suffix: str
    bytes: int
    sha256: str

    def keep(self, purpose: str) -> StoredFile:
        """Reads it through with the reader of every run, and keeps it; a file that cannot be used leaves nothing.

        Raises:
            InputError: a record cannot be used; its line, and the number of others.
        """
        content = self.partial / f"content{self.suffix}"
        try:
            kind, records = read_through(content)
            kept = StoredFile(
                id=f"file-{secrets.token_hex(12)}",
                name=printable(self.name)[:SHOWN_NAME],
                purpose=purpose,
                suffix=self.suffix,
                bytes=self.bytes,
                created_at=int(time.time()),
                kind=kind,
                records=records,
                sha256=self.sha256,
            )
            (self.partial / RECORD).write_text(json.dumps(asdict(kept), indent=2), encoding="utf-8")
            self.partial.rename(self.store.folder / kept.id)
            return kept
        except InputError as error:
            shown = str(error).replace(str(content), printable(self.name)[:SHOWN_NAME])
            raise InputError(shown) from None
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)


def read_through(path: Path) -> tuple[FileKind, int]:
    """What a file holds, and how many of it.

    Raises:
        InputError: it holds nothing that can be used.
    """
    name = str(path)
    if path.suffix == TEXT:
        return "text", read_text(name).count("\n") + 1
    place, first = next(read_records(name), ("", None))
    record = parse_record(place, first) if first is not None else {}
    if is_pair(record):
        return "pairs", len(read_pairs(name))
    if "choices" in record:
        conversations, choices = read_asked(name, Counter())
        return "choices", len(conversations) + len(choices)
    return "conversations", sum(1 for _ in each_conversation(name))


def _suffix_of(name: str) -> str:
    suffix = Path(name.lower()).suffix
    if suffix not in (*SUFFIXES, TEXT):
        found = printable(suffix)[:SHOWN_NAME] or "no ending"
        raise InputError(f"file: its name has {found}, expected one that ends in {', '.join((*SUFFIXES, TEXT))}")
    return suffix
