"""What of several texts is learned from once no near-duplicate of anything held out is, as stretches to encode.

Documents are compared, and of a single long text its paragraphs of 20 words or more. What is held out stays as it is;
what nearly equals it, in whichever text, is left out of what is learned, and counted.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from configs import InputError
from finetune.pretraining.text_sources import TextSource
from scratch_models.documents.known_texts import KnownTexts
from scratch_models.documents.near_duplicates import words_of
from tokenizer_ext.pages.progress import progress

PARAGRAPH_WORDS = 20
BLANK_LINES = re.compile(r"(\n\s*\n)")
SKETCH_HASHES, SAME_TEXT = 1024, 0.9
"""Two texts whose paragraphs have a Jaccard similarity of 0.9, estimated from their smallest hashes, are the same."""


@dataclass
class Stretch:
    """Text without a gap."""

    text: str
    held_out: bool
    starts: bool
    """Whether a document starts with it, or what is left of one."""
    ends: bool


@dataclass
class Sketch:
    """The smallest hashes of the paragraphs of a text: a sample of these (Broder 1997, bottom-k)."""

    hashes: set[bytes] = field(default_factory=set)

    def add(self, text: str) -> None:
        """Takes in the paragraphs of a piece of it."""
        paragraphs = (paragraph.strip() for paragraph in BLANK_LINES.split(text))
        self.hashes |= {hashlib.blake2b(one.encode(), digest_size=8).digest() for one in paragraphs if one}
        if len(self.hashes) > 2 * SKETCH_HASHES:
            self.hashes = set(sorted(self.hashes)[:SKETCH_HASHES])

    def likeness(self, other: "Sketch") -> float:
        """The estimated Jaccard similarity."""
        smallest = sorted(self.hashes | other.hashes)[:SKETCH_HASHES]
        return sum(one in self.hashes and one in other.hashes for one in smallest) / max(len(smallest), 1)


def read_held_out(sources: Sequence[TextSource]) -> KnownTexts:
    """All that is held out of the texts.

    Raises:
        InputError: a text cannot be read, or two of them are the same.

    """
    held_out, sketches = KnownTexts(()), [Sketch() for _ in sources]
    for source, sketch in zip(sources, sketches, strict=True):
        with progress(f"looking through {source.name}", source.characters, "characters") as bar:
            for part in source.parts():
                sketch.add(part.text)
                for unit in _units(part.text, paragraphs=source.one_text) if part.held_out else ():
                    if _can_be_known(unit, source):
                        held_out.add(unit)
                bar.update(len(part.text))
    for (one, left), (other, right) in combinations(zip(sources, sketches, strict=True), 2):
        if one.sha256 == other.sha256 or left.likeness(right) >= SAME_TEXT:
            raise InputError(
                f"corpus: {one.name} and {other.name} hold the same text, expected different ones: replay is what the "
                "model has read before, watched text what it never reads; take one of them out"
            )
    return held_out


class CleanText:
    """The stretches of a text, with what is left out of it counted."""

    def __init__(self, source: TextSource, held_out: KnownTexts) -> None:
        self.source, self.held_out = source, held_out
        self.left_out = 0
        """Documents or paragraphs that nearly equal something held out."""

    def __iter__(self) -> Iterator[Stretch]:
        """Each stretch in its order."""
        is_open = False
        for part in self.source.parts():
            if part.held_out:
                yield Stretch(part.text, True, part.starts, part.ends)
                continue
            kept = list(self._kept(part.text))
            for text, following in pairwise([*kept, ""]):
                if text is None or not text:
                    is_open = False
                    continue
                ends = following is None or (following == "" and part.ends)
                yield Stretch(text, False, starts=not is_open, ends=ends)
                is_open = not ends

    def _kept(self, text: str) -> Iterator[str | None]:
        """The text, with None where something is left out of it."""
        run = ""
        for unit in _units(text, paragraphs=self.source.one_text):
            if _can_be_known(unit, self.source) and self.held_out.has_near(unit):
                self.left_out += 1
                yield from (run, None) if run.strip() else (None,)
                run = ""
            elif run or unit.strip():  # behind a gap no blank line is left over
                run += unit
        if run.strip():
            yield run


def _units(text: str, *, paragraphs: bool) -> Sequence[str]:
    """What is compared as one; joined again it is the text."""
    return BLANK_LINES.split(text) if paragraphs else (text,)


def _can_be_known(unit: str, source: TextSource) -> bool:
    return not source.one_text or len(words_of(unit)) >= PARAGRAPH_WORDS
