"""The text of an extension: documents from files, each once, and which of them are held out."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs import InputError, MissingInput
from tokenizer_ext.bpe.lone_surrogates import without_lone_surrogates
from tokenizer_ext.bpe.written_tokens import BYTES, Writing

HELD_OUT_EVERY = 10

WordForms = Literal["as_written", "after_space", "both"]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Documents by their part in an extension; no two of a part are equal."""

    to_learn: Sequence[str] = ()
    """Tokens are learned from these."""
    held_out: Sequence[str] = ()
    """Bytes per token are measured on these."""
    protected: Sequence[str] = ()
    """These keep their ids."""
    duplicates: int = 0
    """Documents left out of the first two because one exactly like them was there."""

    @property
    def measured(self) -> Sequence[str]:
        """The documents held out; where there are none, those that tokens are learned from."""
        return self.held_out or self.to_learn


def sort_texts(corpus: Iterable[str], held_out: Iterable[str] | None, protected: Iterable[str]) -> Texts:
    """The documents, empty ones and duplicates left out; without `held_out` every tenth of the corpus is that.

    >>> texts = sort_texts("a b c d e f g h i a j k".split(), None, [])
    >>> texts.to_learn, texts.held_out, texts.duplicates
    (['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'k'], ['j'], 1)
    """
    documents, set_aside = clean_documents(corpus, "corpus"), clean_documents(held_out or (), "held_out")
    distinct, distinct_aside = list(dict.fromkeys(documents)), list(dict.fromkeys(set_aside))
    if held_out is None:
        to_learn = [text for number, text in enumerate(distinct, 1) if number % HELD_OUT_EVERY]
        distinct_aside = distinct[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    else:
        known = set(distinct_aside)
        to_learn = [text for text in distinct if text not in known]
    return Texts(
        to_learn=to_learn,
        held_out=distinct_aside,
        protected=list(dict.fromkeys(clean_documents(protected, "protect"))),
        duplicates=len(documents) + len(set_aside) - len(to_learn) - len(distinct_aside),
    )


def read_documents(path: str | Path, field: str = "corpus") -> list[str]:
    """The documents of a text file: paragraphs, as blank lines separate them.

    Raises:
        InputError: the file is missing, a folder, empty or not UTF-8.

    """
    documents = split_documents(_read_text(Path(path), field))
    if not documents:
        raise InputError(f"{field} {path}: is empty, expected text to learn tokens from")
    return documents


def split_documents(text: str) -> list[str]:
    r"""The paragraphs of a text, as blank lines separate them.

    >>> split_documents("one\ntwo\n \nthree\n\n\n")
    ['one\ntwo', 'three']
    """
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def read_left_out(path: str | Path, writing: Writing = BYTES) -> frozenset[bytes]:
    """The tokens of a text file, one a line as `tokenizer.json` writes them.

    Raises:
        InputError: the file is missing, a folder or not UTF-8, or a line is no token in that writing.

    """
    lines = _read_text(Path(path), "leave_out").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line]
    return frozenset(token_of_line(line, f"leave_out {path}:{number}", writing) for number, line in numbered)


def token_of_line(line: str, place: str, writing: Writing = BYTES) -> bytes:
    """The bytes of a token that is written as in `tokenizer.json`.

    >>> token_of_line("Ġmodel", "leave_out")
    b' model'

    Raises:
        InputError: a character of it stands for no byte; it begins with `place`.

    """
    try:
        return writing.read(line.removesuffix("\r"))
    except KeyError as error:
        found = error.args[0]
        instead = f": write {writing.write(found.encode())} for it" if found.isprintable() else ""
        raise InputError(
            f"{place}: {line!r} holds {found!r}, expected a token as tokenizer.json writes it, such as "
            f"{writing.example} for ' model'{instead}"
        ) from None


def read_words(path: str | Path) -> list[str]:
    """The words of a text file, one a line.

    Raises:
        InputError: the file is missing, a folder or not UTF-8, or a line is empty.

    """
    words = _read_text(Path(path), "words").splitlines()
    for number, word in enumerate(words, 1):
        if not word.strip():
            raise InputError(f"words {path}:{number}: is empty, expected a word on every line: remove the line")
    if not words:
        raise InputError(f"words {path}: is empty, expected a word on every line")
    return words


def word_forms(words: Sequence[str], forms: WordForms, known: Iterable[bytes]) -> tuple[list[str], list[str]]:
    """The texts that stand for each word, and those left out because they are tokens already.

    To most tokenizers a word and the same word after a space are two tokens. A form is left out only where the other
    one is new.

    >>> word_forms(["cat", "emu"], "both", [b" cat"])
    (['cat', 'emu', ' emu'], [' cat'])
    """
    if forms == "as_written":
        return list(words), []
    if forms == "after_space":
        return [f" {word.lstrip(' ')}" for word in words], []
    tokens = set(known)
    wanted, left_out = [], []
    for word in words:
        both = [word.lstrip(" "), f" {word.lstrip(' ')}"]
        new = [form for form in both if form.encode(errors="surrogatepass") not in tokens]
        wanted += new or both
        left_out += [form for form in both if form not in new] if new else []
    return wanted, left_out


def clean_documents(texts: Iterable[str], field: str) -> list[str]:
    """The documents as a tokenizer can read them, empty ones left out.

    Raises:
        InputError: one string was given in place of documents; `field` says where.

    """
    if isinstance(texts, str):
        raise InputError(f"{field}: found one string ({texts[:40]!r}), expected a list of documents: pass [text]")
    return [without_lone_surrogates(text) for text in texts if text.strip()]


def _read_text(path: Path, field: str) -> str:
    if not path.exists():
        raise MissingInput(f"{field} {path}: no such file, expected a text file in UTF-8")
    if path.is_dir():
        raise InputError(f"{field} {path}: is a folder, expected a text file in UTF-8")
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{field} {path}: byte {error.start} is not UTF-8, expected a text file in UTF-8: convert the file first"
        ) from None
