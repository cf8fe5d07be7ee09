"""The texts that a run names: what is learned from each, what is held out, and by what they are known again."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from configs import InputError
from configs.file_hash import file_sha256
from finetune.files.weighted_sets import NUMBER, WEIGHTED, WeightedSet
from scratch_models.corpus.blocks import TRAINING_SHARE
from scratch_models.corpus.corpus_parts import Part, Survey, parts_of, survey_corpus
from scratch_models.corpus.embedded_corpus import EmbeddedCorpus, embedded_corpus
from scratch_models.documents.reading import corpus_files, is_one_text

EMBEDDED_PARTS = {"embedded": "domain", "embedded_base": "base"}
"""Torch's documentation, which the embedded base never read, and what it did read."""
DEFAULT_CORPUS = ("embedded:1", "embedded_base:0.3")


class TextSource(Protocol):
    """A text that is learned from, or only measured on."""

    name: str
    learned: bool
    """Whether any of it is learned from."""
    one_text: bool
    """Whether it is one long document, as a text file is."""

    @property
    def key(self) -> str:
        """What decides its content."""

    @property
    def characters(self) -> int:
        """About how many it has."""

    @property
    def sha256(self) -> str:
        """The hash of its text."""

    def parts(self) -> Iterator[Part]:
        """Its documents in pieces, each to learn from or held out."""


class FileText:
    """The text of a file, or of a folder of files, read as a stream."""

    def __init__(self, name: str, *, learned: bool) -> None:
        self.name, self.learned = name, learned
        self.files = corpus_files(name)
        self.one_text = is_one_text(self.files)

    @cached_property
    def key(self) -> str:
        """The hashes of the files, with their kinds."""
        hashed = [f"{file_sha256(file)}.{file.name.lower().rpartition('.')[2]}" for file in self.files]
        return f"{self.learned} {' '.join(hashed)}"

    @cached_property
    def survey(self) -> Survey:
        """What a first reading finds; it refuses what is no text."""
        return survey_corpus(self.files, ())

    @property
    def characters(self) -> int:
        """Of the documents that hold a text."""
        return self.survey.characters

    @property
    def sha256(self) -> str:
        """The hash of the documents."""
        return self.survey.sha256

    def parts(self) -> Iterator[Part]:
        """Of what is learned from a tenth is held out, at most about a million characters; else at most that in all."""
        share = TRAINING_SHARE if self.learned else 0.0
        return (part for part in parts_of(self.files, self.survey, share) if self.learned or part.held_out)


class EmbeddedText:
    """A part of the documentation that is on every disk, split as everything else here splits it."""

    one_text = False

    def __init__(self, name: str, *, learned: bool) -> None:
        self.name, self.learned = name, learned

    @cached_property
    def corpus(self) -> EmbeddedCorpus:
        """All of it."""
        return embedded_corpus()

    @property
    def key(self) -> str:
        """The hash of what is learned, and of what is held out."""
        part = EMBEDDED_PARTS[self.name]
        return f"{self.learned} {self.corpus.sha256(part)} {self.corpus.sha256(f'{part}_held_out')}"

    @property
    def characters(self) -> int:
        """Of all documents."""
        return sum(len(part.text) for part in self.parts())

    @property
    def sha256(self) -> str:
        """The hash of what is learned from."""
        return self.corpus.sha256(EMBEDDED_PARTS[self.name])

    def parts(self) -> Iterator[Part]:
        """The documents, each in one."""
        for held_out, ending in ((False, ""), (True, "_held_out")):
            for document in getattr(self.corpus, EMBEDDED_PARTS[self.name] + ending):
                if self.learned or held_out:
                    yield Part(document.text, held_out, starts=True, ends=True)


@dataclass(frozen=True)
class NamedTexts:
    """All texts of a run."""

    learned: list[TextSource]
    weights: list[float]
    """Of those that are learned from, in their order."""
    watched: list[TextSource]
    best_by: str
    """The one that decides which weights are best."""

    @property
    def all(self) -> list[TextSource]:
        """Those that are learned from, then those that are only measured on."""
        return [*self.learned, *self.watched]

    @property
    def shares(self) -> list[float]:
        """The share of each in the tokens that are read."""
        return [weight / sum(self.weights) for weight in self.weights]


def name_texts(corpus: str | Sequence[str] | None, watched: str | Sequence[str], best_by: str | None) -> NamedTexts:
    """The texts of these names, found but not read yet.

    Raises:
        InputError: a file is not there or empty, a weight is no number above 0, a name is there twice, or `best_by`
            names none of them.

    """
    given = _as_list(DEFAULT_CORPUS if corpus is None else corpus)
    if not given:
        raise InputError("corpus: found no name, expected one or more of text files and folders")
    sets, named = [_weighted(name) for name in given], _as_list(watched)
    names = [*(one.name for one in sets), *named]
    for place, name in enumerate(names):
        if any(_is_same(name, other) for other in names[:place]):
            raise InputError(f"corpus and watched: found {name} twice, expected each text once: take one of them out")
    return NamedTexts(
        learned=[_source(one.name, learned=True) for one in sets],
        weights=[one.weight or 1.0 for one in sets],
        watched=[_source(name, learned=False) for name in named],
        best_by=_find_name(best_by, names),
    )


def _as_list(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _source(name: str, *, learned: bool) -> TextSource:
    return EmbeddedText(name, learned=learned) if name in EMBEDDED_PARTS else FileText(name, learned=learned)


def _weighted(given: str) -> WeightedSet:
    found = WEIGHTED.fullmatch(given)
    if found is None or Path(given).expanduser().exists():
        return WeightedSet(given, 1.0)
    name, weight = found["name"], found["weight"]
    if not NUMBER.fullmatch(weight) or not 0 < float(weight) < math.inf:
        raise InputError(f"corpus: {name} has the weight {weight!r}, expected a finite number above 0, as {name}:0.3")
    return WeightedSet(name, float(weight))


def _is_same(one: str, other: str) -> bool:
    return one == other or Path(one).expanduser().absolute() == Path(other).expanduser().absolute()


def _find_name(wanted: str | None, names: Sequence[str]) -> str:
    """The name that is wanted, also by its last part where only one has it; by default the first."""
    if wanted is None:
        return names[0]
    found = [name for name in names if wanted in (name, Path(name).name)]
    if wanted in names or len(found) == 1:
        return wanted if wanted in names else found[0]
    raise InputError(f"best_by: found {wanted!r}, expected one of the texts of the run: {', '.join(names)}")
