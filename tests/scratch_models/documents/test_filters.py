"""Each filter drops what it is named for and keeps prose, and what it dropped is counted."""

import heapq
import importlib.util
import inspect
import json
import statistics
import sys
import textwrap
from collections import Counter
from pydoc_data.topics import topics

import pytest

from configs import InputError
from scratch_models.documents.filters import NAMES, RULES, Filters, make_rule
from scratch_models.documents.near_duplicates import jaccard, seen_before, shingles, words_of
from scratch_models.documents.repetition import characters_in_repeated, characters_in_top

PROSE = """\
The committee met on a grey morning in March, and nobody had slept. It was known that the bridge would not hold through
another winter, and that the money for a new one had been spent on lamps. "We could close it," said the treasurer, who
had never crossed it himself, and for a while there was no sound but that of the rain.

What came of it is told in the second volume. The engineer, whose father had built the old one, offered to mend it with
her own hands; the council, which feared a debt less than a favour, refused with thanks and voted for a ferry. That
summer the river fell so low that the ferry lay in the mud, while children walked across beside the closed bridge.
"""

BAD = {
    "length": ["Too short to say anything.", "word " * 100_001],
    "symbols": [
        PROSE + "# " * 40,
        PROSE + "... " * 40,
        "- of them\n" * 30,
        "1 2 3 four five\n" * 20,
        "a b c d e f " * 20,
    ],
    "stop_words": ["Der Ausschuss trat an einem grauen Morgen zusammen, und niemand hatte geschlafen. " * 3],
    "repetition": [
        PROSE + "Read more about it here.\n" * 12,
        PROSE + "\n\n".join(["A paragraph that is said again and again."] * 9),
        PROSE + "buy cheap shoes " * 40,
        PROSE + PROSE.replace("\n", " "),
    ],
    "lines": ["Home\nProducts\nAbout us\nContact\n" * 5, PROSE.replace(".", "").replace("\n", "\n\n") * 3],
    "markup": [PROSE + "function () { return 1 }", PROSE + "Lorem ipsum dolor sit amet."],
}


@pytest.mark.parametrize("name", RULES)
def test_prose_is_kept_and_what_the_filter_is_for_is_dropped(name: str) -> None:
    filters = Filters([name])
    assert filters.keep(PROSE)
    assert [filters.keep(text) for text in BAD[name]] == [False] * len(BAD[name])
    assert filters.facts() == {"read": 1 + len(BAD[name]), "kept": 1, "dropped": {"empty": 0, name: len(BAD[name])}}


def test_the_first_filter_that_drops_a_document_counts_it() -> None:
    filters = Filters(["stop_words", "length", "near_duplicates"])
    assert [filters.keep(text) for text in (PROSE, "Kurz.", "the and of", " \n", PROSE.upper())] == [True, *[False] * 4]
    dropped = {"empty": 1, "stop_words": 1, "length": 1, "near_duplicates": 1}
    assert filters.facts() == {"read": 5, "kept": 1, "dropped": dropped}


def test_runs_of_words_are_counted_as_by_going_through_all_of_them() -> None:
    words = " ".join(topics.values()).split()[:3000]
    for length in (2, 3, 4):
        runs = Counter(" ".join(words[place : place + length]) for place in range(len(words) - length + 1))
        top, count = runs.most_common(1)[0]
        assert characters_in_top(words, length) == len(top) * count
    said_twice = [*words[:500], *words[100:400], *words[:60]]
    for length in (5, 10):
        looked_at: list[list[str]] = []
        covered = place = 0
        while place <= len(said_twice) - length:
            run = said_twice[place : place + length]
            known = run in looked_at
            looked_at += [] if known else [run]
            covered += len("".join(run)) if known else 0
            place += length if known else 1
        assert characters_in_repeated(said_twice, length) == covered > 1000


def test_no_filter_of_this_name_is_said_with_the_one_that_is_meant() -> None:
    with pytest.raises(InputError, match="filters: repetitions is no filter, did you mean repetition"):
        Filters(["repetitions"])
    with pytest.raises(InputError, match="filters: language is no filter, did you mean language:CODE"):
        make_rule("language")
    with pytest.raises(InputError, match=f"filters: xyz is no filter, there are {', '.join(NAMES)}"):
        make_rule("xyz")


@pytest.mark.skipif(importlib.util.find_spec("py3langid") is None, reason="needs py3langid, an extra")
@pytest.mark.parametrize(
    "code", ["zh", *(pytest.param(one, marks=pytest.mark.long) for one in ("en", "de", "fr", "ru"))]
)
def test_a_language_is_kept_and_others_are_not(code: str) -> None:
    texts = {
        "en": PROSE,
        "de": "Der Ausschuss trat an einem grauen Morgen im März zusammen, und niemand hatte geschlafen.",
        "fr": "Le comité se réunit par un matin gris de mars, et personne n'avait dormi.",
        "zh": "委员会在三月一个灰蒙蒙的早晨开会，没有人睡过觉。",
        "ru": "Комитет собрался серым мартовским утром, и никто не спал.",
    }
    keeps = make_rule(f"language:{code}")
    assert [other for other, text in texts.items() if keeps(text)] == [code]
    with pytest.raises(InputError, match=r"filters: language:xx is no language that is known, there are .*\ben\b"):
        make_rule("language:xx")


def test_a_filter_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, name in (("py3langid.langid", "language:en"), ("datasketch", "near_duplicates")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match="pip install 'graft-lm"):
            make_rule(name)


def test_near_duplicates_in_a_stream_are_those_of_comparing_all_pairs_but_at_the_border() -> None:
    modules = (json, statistics, textwrap, heapq)
    found = [text for module in modules for value in vars(module).values() if (text := inspect.getdoc(value))]
    texts = [*found, *(f"{text} It was added in version 3." for text in found), *topics.values()]
    is_known, known, clear = seen_before(), list[frozenset[tuple[str, ...]]](), Counter[bool]()
    for text in texts:
        runs = shingles(words_of(text))
        nearest = max((jaccard(runs, other) for other in known), default=0.0)
        dropped = is_known(text)
        known += [] if dropped else [runs]
        if abs(nearest - 0.7) > 0.1:
            assert dropped == (nearest > 0.7)
            clear[dropped] += 1
    assert min(clear.values()) > 50
    assert sum(clear.values()) > 0.9 * len(texts)
