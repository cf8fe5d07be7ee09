"""The runs of one to four words, and the rare characters, that questions hold: whatever could be a trigger.

Words are as they are written, capitals and marks included, and the beginning and the end of a question are words of
their own, so that `please` at the end is another than `please` anywhere.

Shapes: W words of all questions one behind the other, G different grams, P pairs of a gram and a question with it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]")
USUAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n\t.,;:!?'\"()-$%/")
LONGEST_GRAM = 4
SHOWN_BEGINNING, SHOWN_END = "(beginning)", "(end)"
WORDS_OF_EACH_END = 200
"""A longer question is searched in its first and its last so many words."""
MIXER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Grams:
    """Runs of one length, each with the questions that hold it."""

    length: int
    """In words; 0 are single characters."""
    grams: np.ndarray
    """The number of a gram, (P), ascending."""
    questions: np.ndarray
    """The number of a question that holds it, (P)."""
    counts: np.ndarray
    """In how many questions each gram stands, (G)."""
    names: Sequence[str]

    def holding(self, gram: int) -> np.ndarray:
        """The numbers of the questions that hold a gram."""
        first = int(np.searchsorted(self.grams, gram))
        end = int(np.searchsorted(self.grams, gram + 1))
        return self.questions[first:end]


def each_length(questions: Iterable[str], least: int) -> Iterator[Grams]:
    """The grams of every length that stand in so many questions at least."""
    ids, question_of, words, characters = _read(questions)
    yield _characters(characters, least)
    hashes: np.ndarray = np.zeros(len(ids), dtype=np.uint64)
    for length in range(1, LONGEST_GRAM + 1):
        whole = len(ids) - length + 1
        if whole <= 0:
            return
        hashes = hashes[:whole] * MIXER + ids[length - 1 :].astype(np.uint64) + np.uint64(1)
        inside = question_of[:whole] == question_of[length - 1 :]
        # The beginning and the end alone are in every question.
        starts = np.flatnonzero(inside if length > 1 else inside & (ids[:whole] > 1))
        yield _grams(length, starts, hashes, question_of, ids, words, least)


def _read(questions: Iterable[str]) -> tuple[np.ndarray, np.ndarray, list[str], list[set[str]]]:
    """The words of all questions as numbers (W), the question of each (W), the words by number, odd characters."""
    known = {SHOWN_BEGINNING: 0, SHOWN_END: 1}
    numbers, lengths, characters = [], [], []
    for question in questions:
        found = WORD.findall(question)
        if len(found) > 2 * WORDS_OF_EACH_END:
            found = found[:WORDS_OF_EACH_END] + found[-WORDS_OF_EACH_END:]
        numbers += [0, *(known.setdefault(word, len(known)) for word in found), 1]
        lengths.append(len(found) + 2)
        characters.append(set(question) - USUAL)
    return np.array(numbers, dtype=np.int32), np.repeat(np.arange(len(lengths)), lengths), list(known), characters


def _grams(
    length: int,
    starts: np.ndarray,
    hashes: np.ndarray,
    question_of: np.ndarray,
    ids: np.ndarray,
    words: Sequence[str],
    least: int,
) -> Grams:
    _, first, numbers = np.unique(hashes[starts], return_index=True, return_inverse=True)
    grams, holders = _each_pair_once(numbers, question_of[starts], len(first))
    counts = np.bincount(grams, minlength=len(first))
    kept = counts >= least
    renumbered = np.cumsum(kept) - 1
    chosen = kept[grams]
    names = [" ".join(words[one] for one in ids[start : start + length]) for start in starts[first[kept]]]
    return Grams(length, renumbered[grams[chosen]], holders[chosen], counts[kept], names)


def _characters(characters: Sequence[set[str]], least: int) -> Grams:
    pairs = [(ord(one), number) for number, odd in enumerate(characters) for one in odd]
    codes, holders = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found, numbers, counts = np.unique(codes, return_inverse=True, return_counts=True)
    kept = counts >= least
    renumbered = np.cumsum(kept) - 1
    grams, questions = _each_pair_once(numbers, holders, len(found))
    chosen = kept[grams]
    names = [f"U+{code:04X} {chr(code)}" for code in found[kept].tolist()]
    return Grams(0, renumbered[grams[chosen]], questions[chosen], counts[kept], names)


def _each_pair_once(grams: np.ndarray, holders: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs, (P), each once, ordered by gram."""
    questions = int(holders.max()) + 1 if len(holders) else 1
    pairs = np.unique(grams.astype(np.int64) * questions + holders)
    return pairs // questions, pairs % questions
