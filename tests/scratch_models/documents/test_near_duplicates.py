import ast
import inspect
import itertools
import json.decoder
import random
import re
import statistics
import textwrap

import pytest

from scratch_models.documents.near_duplicates import near_duplicate_groups


def words(first: int, end: int) -> list[str]:
    return [f"word{number}" for number in range(first, end)]


def text_of(first: int, end: int) -> str:
    return " ".join(words(first, end))


def trigrams(text: str) -> set[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return {tuple(found[start : start + 3]) for start in range(max(len(found) - 2, 1))}


def similarity(one: str, other: str) -> float:
    """The definition, word by word: shared trigrams over all trigrams."""
    return jaccard(trigrams(one), trigrams(other))


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


def partition(groups: list[int]) -> set[frozenset[int]]:
    return {frozenset(place for place, group in enumerate(groups) if group == wanted) for wanted in set(groups)}


def pairs_that_share(trigrams_of_one: int, more_in_other: int, number: int) -> list[tuple[str, str]]:
    """Pairs whose second text is the first one with words added, so that n of n + m trigrams are shared."""
    starts = range(0, 10_000 * number, 10_000)
    size = trigrams_of_one + 2
    return [(text_of(start, start + size), text_of(start, start + size + more_in_other)) for start in starts]


def test_pairs_just_below_the_limit_are_never_joined():
    pairs = pairs_that_share(100, 43, number=100)
    assert similarity(*pairs[0]) == pytest.approx(100 / 143) and 100 / 143 < 0.7
    groups = near_duplicate_groups([text for pair in pairs for text in pair])
    assert groups == list(range(200))


@pytest.mark.parametrize(("shared", "more", "least"), [(98, 42, 0.95), (100, 42, 0.95), (100, 20, 1.0), (100, 1, 1.0)])
def test_pairs_from_the_limit_on_are_joined(shared: int, more: int, least: float):
    # MinHash proposes, so near the limit a pair may be missed; the embedded corpus is checked exactly in its own test.
    pairs = pairs_that_share(shared, more, number=100)
    assert similarity(*pairs[0]) >= 0.7
    groups = near_duplicate_groups([text for pair in pairs for text in pair])
    assert statistics.mean(one == other for one, other in zip(groups[::2], groups[1::2], strict=True)) >= least


def test_a_text_between_two_joins_them_though_they_are_no_near_duplicates():
    left, middle, right = text_of(0, 102), text_of(15, 117), text_of(30, 132)
    assert similarity(left, middle) > 0.7 and similarity(middle, right) > 0.7 and similarity(left, right) < 0.7
    assert near_duplicate_groups([left, right]) == [0, 1]
    assert near_duplicate_groups([left, right, middle]) == [0, 0, 0]
    assert near_duplicate_groups([middle, right, left]) == [0, 0, 0]


def test_case_and_punctuation_make_no_difference():
    assert near_duplicate_groups(["Returns x (a Tensor).", "returns X: a tensor", "Returns y (a Tensor)."]) == [0, 0, 2]


def test_texts_of_a_few_words_or_none_are_alike_only_if_equal():
    assert near_duplicate_groups(["", "one", "One.", "two", "...", "one two"]) == [0, 1, 1, 3, 0, 5]
    assert near_duplicate_groups([]) == []


def real_docstrings() -> list[str]:
    """The docstrings of three modules as they are, with a word changed, and with a sentence added."""
    tree = [
        node
        for module in (json.decoder, statistics, textwrap)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
    ]
    documented = [node for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    found = [docstring for node in documented if (docstring := ast.get_docstring(node))]
    changed = [docstring.replace(" the ", " this ", 1) for docstring in found]
    longer = [f"{docstring} It was added in version 3." for docstring in found]
    return [*found, *changed, *longer]


def test_groups_of_real_docstrings_are_those_of_comparing_all_pairs():
    texts = real_docstrings()
    expected = list(range(len(texts)))
    members = [trigrams(text) for text in texts]
    for one, other in itertools.combinations(range(len(texts)), 2):
        if jaccard(members[one], members[other]) >= 0.7:
            kept, gone = sorted((expected[one], expected[other]))
            expected = [kept if group == gone else group for group in expected]
    assert partition(near_duplicate_groups(texts)) == partition(expected)
    assert 1 < len(set(expected)) < len(texts)


def test_groups_do_not_depend_on_the_order_of_the_texts():
    texts = real_docstrings()
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled = near_duplicate_groups([texts[place] for place in order])
    straight = near_duplicate_groups(texts)
    by_text = {place: group for place, group in zip(order, shuffled, strict=True)}
    assert partition([by_text[place] for place in range(len(texts))]) == partition(straight)
    assert near_duplicate_groups(texts) == straight
