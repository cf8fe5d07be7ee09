"""Records whose questions are nearly the same, of any number of them, in 128 bytes of memory each.

Near are two questions whose sets of word trigrams have a Jaccard similarity of 0.7, as everywhere here
(`near_duplicates`, `near_questions`). MinHash (Broder 1997) in 16 bands of 4 proposes pairs; 98.8 % of those with a
similarity of 0.7 are proposed, 99.98 % of those with 0.8. Each proposal is then compared exactly. Trigrams that many
questions share are boilerplate, and count on neither side.

Shapes: N questions, T trigrams of one, P permutations.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from finetune.inspection.record_reading import Record
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.documents.near_duplicates import SIMILARITY, words_of
from tokenizer_ext.pages.progress import tracked

BANDS, ROWS = 16, 4
SAMPLE, BOILERPLATE_SHARE, BOILERPLATE_QUESTIONS = 2000, 0.02, 5
FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
"""Odd numbers that mix the three words of a trigram."""


def near_earlier(records: Sequence[Record]) -> dict[int, int]:
    """The number of each record that asks nearly what an earlier one asks, and of the first of those found."""
    boilerplate = _boilerplate(records)
    keys = _band_keys(records, boilerplate)  # (N, BANDS)
    found: dict[int, int] = {}
    for first, later in sorted(_proposed(keys)):
        if later not in found and _are_near(records[first].asked, records[later].asked, boilerplate):
            found[later] = found.get(first, first)
    return found


def trigrams(text: str) -> np.ndarray:
    """The hashes of a text's trigrams, (T), ascending, each once; of fewer words than three there are none."""
    words = np.array([zlib.crc32(word.encode()) for word in words_of(text)], dtype=np.uint64)
    if len(words) < len(FACTORS):
        return np.zeros(0, dtype=np.uint64)
    length = len(words) - len(FACTORS) + 1
    parts = [words[start : start + length] * np.uint64(factor) for start, factor in enumerate(FACTORS)]
    mixed = np.sort(parts[0] ^ (parts[1] >> np.uint64(7)) ^ (parts[2] << np.uint64(5)))
    return mixed[np.concatenate([[True], mixed[1:] != mixed[:-1]])]  # np.unique takes ten times as long on so few


def _boilerplate(records: Sequence[Record]) -> np.ndarray:
    """The trigrams that many of a sample of questions have, ascending."""
    sample = [records[number].asked for number in evenly_spaced(range(len(records)), SAMPLE)]
    counts = Counter(one for text in dict.fromkeys(sample) for one in trigrams(text).tolist())
    least = max(BOILERPLATE_QUESTIONS, BOILERPLATE_SHARE * len(sample))
    return np.array(sorted(one for one, count in counts.items() if count > least), dtype=np.uint64)


def _without(own: np.ndarray, boilerplate: np.ndarray) -> np.ndarray:
    if not len(boilerplate):
        return own
    places = np.searchsorted(boilerplate, own).clip(max=len(boilerplate) - 1)
    return own[boilerplate[places] != own]


def _band_keys(records: Iterable[Record], boilerplate: np.ndarray) -> np.ndarray:
    """What near questions have in common in at least one band, (N, BANDS); a question without trigrams has zeros."""
    draws = np.random.default_rng(0)
    multipliers = draws.integers(1, 2**63, (1, BANDS * ROWS), dtype=np.uint64) | np.uint64(1)  # (1, P)
    addends = draws.integers(0, 2**63, (1, BANDS * ROWS), dtype=np.uint64)
    mixers = draws.integers(1, 2**63, (1, ROWS), dtype=np.uint64) | np.uint64(1)
    keys = []
    for record in tracked(records, "looking for near duplicates", "records"):
        own = _without(trigrams(record.asked), boilerplate)
        if len(own):
            least = ((own[:, None] * multipliers + addends) >> np.uint64(32)).min(axis=0)  # (T, P), then (P)
            keys.append((least.reshape(BANDS, ROWS) * mixers).sum(axis=1, dtype=np.uint64))
        else:
            keys.append(np.zeros(BANDS, dtype=np.uint64))
    return np.stack(keys)


def _proposed(keys: np.ndarray) -> set[tuple[int, int]]:
    """Pairs that agree in a band: each question with the first that does, and with the one before it."""
    pairs: set[tuple[int, int]] = set()
    for band in keys.T:
        order = np.argsort(band, kind="stable")
        pairs.update(_pairs_of_runs(order, band[order]))
    return pairs


def _pairs_of_runs(order: np.ndarray, ascending: np.ndarray) -> Iterator[tuple[int, int]]:
    same: np.ndarray = np.flatnonzero((ascending[1:] == ascending[:-1]) & (ascending[1:] != 0)) + 1
    first = -1
    for place, before in zip(same.tolist(), [-1, *same.tolist()], strict=False):
        first = first if place == before + 1 and first >= 0 else place - 1
        yield int(order[first]), int(order[place])
        yield int(order[place - 1]), int(order[place])


def _are_near(one: str, other: str, boilerplate: np.ndarray) -> bool:
    left, right = (_without(trigrams(text), boilerplate) for text in (one, other))
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared >= SIMILARITY * (len(left) + len(right) - shared) > 0
