"""The held-out questions of the embedded corpus were read by nothing: checked exactly, not by what made the split.

The check uses no sketches. Sets a and b with a Jaccard similarity of at least t share t |a| members or more, so b has
one of any |a| - ceil(t |a|) + 1 members of a (Chaudhuri et al. 2006, "A Primitive Operator for Similarity Joins in Data
Cleaning"): an index of that many trigrams of each held-out text finds every partner.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from configs import InputError
from scratch_models.corpus import embedded_corpus as module
from scratch_models.corpus.documentation import Document
from scratch_models.corpus.embedded_corpus import DOMAIN_PACKAGE, EmbeddedCorpus, embedded_corpus, split_documents

LIMIT = 0.7
PARTS = ("base", "base_held_out", "domain", "domain_held_out")
Trigrams = frozenset[tuple[str, ...]]


@pytest.fixture(scope="module")
def corpus() -> EmbeddedCorpus:
    return embedded_corpus()


def trigrams(text: str) -> Trigrams:
    words = re.findall(r"\w+", text.lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False)) or frozenset([tuple(words)])


def near_duplicate_pairs(
    held_out: Sequence[str], read: Iterable[str], limit: float = LIMIT
) -> list[tuple[int, int, float]]:
    """Every pair of a held-out text and a read one whose similarity is at least the limit, with that similarity."""
    ours = [trigrams(text) for text in held_out]
    counts = Counter(itertools.chain.from_iterable(ours))
    index: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, members in enumerate(ours):
        rare_first = sorted(members, key=lambda trigram: (counts[trigram], trigram))
        for trigram in rare_first[: len(members) - math.ceil(limit * len(members) - 1e-9) + 1]:
            index[trigram].append(number)
    indexed = index.keys()
    pairs = []
    for place, text in enumerate(read):
        theirs = trigrams(text)
        for number in {number for trigram in indexed & theirs for number in index[trigram]}:
            shared = len(ours[number] & theirs)
            similarity = shared / (len(ours[number]) + len(theirs) - shared)
            if similarity >= limit:
                pairs.append((number, place, similarity))
    return sorted(pairs)


def docstrings(documents: Iterable[Document]) -> list[str]:
    return [document.docstring for document in documents]


def texts(documents: Iterable[Document]) -> list[str]:
    return [document.text for document in documents]


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.7])
def test_the_exact_check_finds_what_comparing_every_pair_finds(corpus: EmbeddedCorpus, limit: float):
    read = docstrings(corpus.domain[::50])
    # Planted: texts that lack up to twenty words of one that was read, so that there are pairs at every similarity.
    planted = [" ".join(text.split()[number % 20 :]) for number, text in enumerate(read[:100])]
    held_out = docstrings(corpus.domain_held_out[::20]) + planted
    theirs = [trigrams(text) for text in read]
    expected = []
    for number, one in enumerate(map(trigrams, held_out)):
        similarities = [len(one & other) / len(one | other) for other in theirs]
        expected += [(number, place, value) for place, value in enumerate(similarities) if value >= limit]
    assert near_duplicate_pairs(held_out, read, limit) == expected
    assert len(expected) > 40


@pytest.mark.parametrize("part", [pytest.param("base", marks=pytest.mark.long), "base_held_out", "domain"])
@pytest.mark.parametrize("view", [docstrings, pytest.param(texts, marks=pytest.mark.long)], ids=["docstrings", "texts"])
def test_no_held_out_question_nearly_duplicates_anything_that_was_read(
    corpus: EmbeddedCorpus, part: str, view: Callable[[Iterable[Document]], list[str]]
):
    assert near_duplicate_pairs(view(corpus.domain_held_out), view(getattr(corpus, part))) == []


@pytest.mark.long
def test_no_held_out_document_of_the_base_nearly_duplicates_one_that_it_read(corpus: EmbeddedCorpus):
    assert near_duplicate_pairs(docstrings(corpus.base_held_out), docstrings(corpus.base)) == []


def test_no_qualified_name_lies_in_two_sets(corpus: EmbeddedCorpus):
    names = [document.name for part in PARTS for document in getattr(corpus, part)]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_every_set_holds_documents_of_its_own_packages(corpus: EmbeddedCorpus):
    for part in PARTS:
        assert {document.package == DOMAIN_PACKAGE for document in getattr(corpus, part)} == {part.startswith("domain")}
    assert len(corpus.domain_held_out) > 500


def make_document(package: str, number: int, docstring: str = "") -> Document:
    """A document whose text shares no trigram with that of another number."""
    words = " ".join(f"{package}{number}word{place}" for place in range(12))
    return Document(f"{package}.f{number:05}", package, "function", "()", docstring or words)


def names_of(corpus: EmbeddedCorpus, part: str) -> set[str]:
    return {document.name for document in getattr(corpus, part)}


def test_a_tenth_of_the_domain_and_a_fiftieth_of_the_base_are_held_out():
    documents = [make_document(package, number) for package in ("numpy", "torch") for number in range(2000)]
    corpus = split_documents(documents)
    assert corpus.dropped == {}
    assert len(corpus.domain_held_out) == pytest.approx(200, abs=60)
    assert len(corpus.base_held_out) == pytest.approx(40, abs=25)
    assert set.union(*(names_of(corpus, part) for part in PARTS)) == {document.name for document in documents}


def test_a_document_lies_on_the_same_side_whatever_else_there_is():
    documents = [make_document(package, number) for package in ("numpy", "torch") for number in range(400)]
    whole, half = split_documents(documents), split_documents(documents[::2])
    for part in PARTS:
        assert names_of(half, part) == names_of(whole, part) & {document.name for document in documents[::2]}


def test_one_of_each_group_is_kept_and_the_rest_counted():
    copied = [make_document("numpy", number, docstring="The same sentence in all of them.") for number in range(5)]
    corpus = split_documents([*copied, make_document("numpy", 5)])
    assert names_of(corpus, "base") | names_of(corpus, "base_held_out") == {"numpy.f00000", "numpy.f00005"}
    assert corpus.dropped == {"base near-duplicates": 4}


def test_what_the_domain_shares_with_the_base_is_dropped_from_the_domain():
    shared = "Returns a new array of the given shape and type, filled with zeros."
    ours = [make_document("torch", number, docstring=f"{shared} {'!' * number}") for number in range(3)]
    corpus = split_documents([make_document("numpy", 0, docstring=shared), *ours, make_document("torch", 3)])
    assert names_of(corpus, "domain") | names_of(corpus, "domain_held_out") == {"torch.f00003"}
    assert corpus.dropped == {"domain documents that nearly duplicate one of the base": 3}


@pytest.fixture
def small_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and packages that are read in a moment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "BASE_PACKAGES", ("json",))
    monkeypatch.setattr(module, "DOMAIN_PACKAGE", "tiktoken")
    monkeypatch.setattr(module, "BASE_NAMESPACES", ("math",))
    monkeypatch.setattr(module, "DOMAIN_NAMESPACES", ())
    return tmp_path / "graft"


def test_the_corpus_is_read_once_and_then_kept(small_packages: Path):
    first = embedded_corpus()
    (kept,) = small_packages.iterdir()
    written = kept.stat().st_mtime_ns
    assert embedded_corpus() == first == split_documents(module.read_all())
    assert kept.stat().st_mtime_ns == written
    assert {"json.dump", "math.sqrt", "help.with"} <= names_of(first, "base") | names_of(first, "base_held_out")
    assert {document.package for document in first.domain} == {"tiktoken"}


def test_a_package_that_is_missing_is_named_and_nothing_is_kept(small_packages: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BASE_PACKAGES", ("no_such_package_here",))
    with pytest.raises(InputError, match="package no_such_package_here is not installed"):
        embedded_corpus()
    assert not small_packages.exists()
