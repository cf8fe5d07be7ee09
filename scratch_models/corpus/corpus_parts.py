"""What of a stream of documents is kept, what of that is learned from, and what is held out."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs import InputError
from scratch_models.corpus.blocks import TRAINING_SHARE
from scratch_models.documents.filters import Filters, describe
from scratch_models.documents.reading import Piece, is_one_text, read_pieces, whole_documents
from tokenizer_ext.pages.progress import progress

MOST_HELD_OUT = 1_000_000
"""Characters; a tenth of a corpus is held out, but no more than about so many."""
CODE_POINTS = 0x110000


@dataclass(frozen=True)
class Survey:
    """What a first reading of a corpus found."""

    kept: bytearray
    """1 for each document that is kept, 0 for each that is not, in their order."""
    documents: int
    """How many are kept."""
    characters: int
    """How many these have."""
    alphabet: frozenset[str]
    """Which."""
    sha256: str
    """Hash of the UTF-8 of these; of a text file that is kept whole, that of the file."""
    facts: dict[str, Any]
    """What the filters say that they read and dropped."""


class Part(NamedTuple):
    """A piece of a document that is kept."""

    text: str
    held_out: bool
    starts: bool
    """Whether a document starts with it, or what is held out of one."""
    ends: bool


def survey_corpus(files: Sequence[Path], filters: Sequence[str]) -> Survey:
    """What a corpus holds, and which of its documents the filters keep.

    Raises:
        InputError: a file cannot be read, a filter cannot be had, or no document is kept.

    """
    rules, kept, digest = Filters(filters), bytearray(), hashlib.sha256()
    seen: np.ndarray = np.zeros(CODE_POINTS, dtype=np.bool_)
    characters = 0
    with progress("reading the corpus", _bytes_to_read(files), "bytes") as bar:
        for piece, starts in _documents(files, whole=bool(filters)):
            content = piece.text.encode()
            bar.update(len(content))
            if starts:
                kept.append(rules.keep(piece.text))
                digest.update(b"\0" if kept[-1] and characters else b"")  # between documents
            if kept[-1]:
                seen[np.frombuffer(piece.text.encode("utf-32-le"), np.uint32)] = True
                digest.update(content)
                characters += len(piece.text)
    facts = rules.facts() | ({"one_text": True} if is_one_text(files) else {})
    if not facts["kept"]:
        instead = "take a filter out" if filters else "give a text"
        raise InputError(f"{files[0]}: {describe(facts)}: expected some to learn from, {instead}")
    alphabet = frozenset(map(chr, np.flatnonzero(seen).tolist()))
    return Survey(kept, facts["kept"], characters, alphabet, digest.hexdigest(), facts)


def parts_of(files: Sequence[Path], survey: Survey, training_share: float = TRAINING_SHARE) -> Iterator[Part]:
    """The pieces of the documents that are kept, each to learn from or held out.

    Of a single document the last tenth is held out, of several every tenth or so, spread evenly; of a long corpus less,
    and more where less than nine tenths are to be learned from.
    """
    if survey.documents == 1:
        yield from _split_by_position(_kept_pieces(files, survey), survey.characters, training_share)
        return
    share = min(1 - training_share, MOST_HELD_OUT / max(survey.characters, 1))
    chosen = max(1, round(share * survey.documents))
    number = -1
    for piece, starts in _kept_pieces(files, survey):
        number += starts
        held_out = (number + 1) * chosen // survey.documents > number * chosen // survey.documents
        yield Part(piece.text, held_out, starts, piece.ends)


def _bytes_to_read(files: Sequence[Path]) -> int | None:
    """About how many bytes of text the files hold; None where they are packed, so that nobody knows before."""
    plain = all(file.name.lower().endswith((".txt", ".jsonl", ".md")) for file in files)
    return sum(file.stat().st_size for file in files) if plain else None


def _split_by_position(pieces: Iterator[tuple[Piece, bool]], characters: int, training_share: float) -> Iterator[Part]:
    boundary = max(int(training_share * characters), characters - MOST_HELD_OUT)
    place = 0
    for piece, starts in pieces:
        cut = min(max(boundary - place, 0), len(piece.text))
        place += len(piece.text)
        if cut:
            yield Part(piece.text[:cut], False, starts, place >= boundary)
        if cut < len(piece.text):
            yield Part(piece.text[cut:], True, place - len(piece.text) <= boundary, piece.ends)


def _documents(files: Sequence[Path], *, whole: bool) -> Iterator[tuple[Piece, bool]]:
    """The pieces, each with whether a document starts with it; `whole` documents are one piece each."""
    starts = True
    pieces = read_pieces(files)
    for piece in (Piece(text, ends=True) for text in whole_documents(pieces)) if whole else pieces:
        yield piece, starts
        starts = piece.ends


def _kept_pieces(files: Sequence[Path], survey: Survey) -> Iterator[tuple[Piece, bool]]:
    number = -1
    for piece, starts in _documents(files, whole=False):
        number += starts
        if survey.kept[number]:
            yield piece, starts
