"""An extension of a vocabulary as the studio asks for it: the base, the text, what to take and what to leave out."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import InputError
from configs.whole_folder import write_whole
from finetune.export.saved_model import find_model
from finetune.service.file_store import FileStore, StoredFile
from finetune.service.own_tokenizers import own_tokenizer
from tokenizer_ext.bpe.written_tokens import BYTES, MARKED, Writing
from tokenizer_ext.extension.corpus_files import read_documents, split_documents, token_of_line, word_forms
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.huggingface.byte_level_backend import writing_of
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
from tokenizer_ext.inspection.proposal import Proposal, propose

TEXT = "text"
PASTED = "pasted.txt"


@dataclass(frozen=True, kw_only=True)
class AskedExtension:
    """One extension, asked for on a page."""

    place: str
    """Where the base lies."""
    corpus: str
    """The text; empty where it is a file."""
    file_id: str | None
    new_tokens: int
    words: str
    """Words that become one token each, one a line."""
    left_out: str
    """Tokens that are not learned, one a line as `tokenizer.json` writes them."""

    def plan(self, files: FileStore) -> Proposal:
        """What it would add.

        Raises:
            InputError: there is no such base or text, or the text does not support it.
        """
        tokenizer = own_tokenizer(base_of(self.place))
        words, _ = word_forms(self.word_lines, "both", token_bytes(tokenizer).values())
        wanted = Wanted(new_tokens=self.new_tokens, words=words, leave_out=self.struck(writing_of(tokenizer)))
        return propose(tokenizer, self._documents(files), wanted)

    def settings(self, files: FileStore, folder: Path) -> tuple[dict[str, Any], str]:
        """The settings of its run, and the id of the file with its text; what is pasted is kept as files first.

        Raises:
            InputError: there is no such base or text.
        """
        file = self._file(files) or files.keep_text(PASTED, self._pasted(), "user_data")
        found: dict[str, Any] = {"base": base_of(self.place), "corpus": str(files.path_of(file).absolute())}
        found["new_tokens"] = self.new_tokens
        if self.word_lines:
            found["words"] = _written(folder, "words", "\n".join(self.word_lines))
        if lines_of(self.left_out):
            found["leave_out"] = _written(folder, "leave_out", "\n".join(lines_of(self.left_out)))
        return found, file.id

    @property
    def word_lines(self) -> list[str]:
        """The words, each once."""
        return list(dict.fromkeys(line.strip() for line in lines_of(self.words)))

    def struck(self, writing: Writing) -> frozenset[bytes]:
        """The tokens that are not learned.

        Raises:
            InputError: a line is none.
        """
        lines = enumerate(lines_of(self.left_out), 1)
        return frozenset(token_of_line(line, f"leave out, line {number}", writing) for number, line in lines)

    def _documents(self, files: FileStore) -> list[str]:
        file = self._file(files)
        return split_documents(self._pasted()) if file is None else read_documents(files.path_of(file))

    def _file(self, files: FileStore) -> StoredFile | None:
        if self.file_id is None:
            return None
        file = files.get(self.file_id)
        if file.kind != TEXT:
            raise InputError(f"file: {file.id} holds {file.kind}, expected text")
        return file

    def _pasted(self) -> str:
        if not self.corpus.strip():
            raise InputError("corpus: is empty, expected text of the domain, or a file that was uploaded")
        return self.corpus


def texts_in(files: FileStore) -> list[StoredFile]:
    """The uploaded files that tokens can be learned from, the newest first."""
    return [file for file in files.all() if file.kind == TEXT]


def base_of(place: str) -> str:
    """The folder or name of the model at a place, where it has weights of its own.

    Raises:
        InputError: it is an adapter, or there is none.
    """
    folder = find_model(place)
    if (folder / ADAPTER_CONFIG).is_file():
        raise InputError(f"{place}: is an adapter, expected a model with weights of its own: merge it first")
    return str(folder)


def toggle_line(line: object, text: object) -> str:
    r"""The lines of a text with one more; without it where it is one of them.

    >>> toggle_line("b", "a"), toggle_line("a", "a\nb"), toggle_line("", "a")
    ('a\nb', 'b', 'a')

    Raises:
        InputError: it is no token as `tokenizer.json` writes it.
    """
    if not isinstance(line, str) or not isinstance(text, str):
        raise InputError("strike: found no text, expected the token of a row")
    lines = lines_of(text)
    if line:
        token_of_line(line, "strike", BYTES if line.isascii() else MARKED)
        lines = [other for other in lines if other != line] if line in lines else [*lines, line]
    return "\n".join(lines)


def lines_of(text: str) -> list[str]:
    """The lines that hold something."""
    return [line for line in text.splitlines() if line.strip()]


def _written(folder: Path, what: str, content: str) -> str:
    """The path of a file with this content."""
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    path = folder / "extensions" / f"{what}-{digest}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content + "\n")
    return str(path.absolute())
