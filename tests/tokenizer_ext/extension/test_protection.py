from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizer_ext.families import EACH_FAMILY, family_tokenizer
from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.extension.piece_counts import adjacent_pairs, count_pieces
from tokenizer_ext.huggingface.hf_tokenizer import append_merges, next_token_id, token_bytes

LETTERS = [b"a", b"b", b"c"]
PIECES = st.dictionaries(
    st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), st.integers(1, 5), min_size=1, max_size=8
)


@pytest.fixture(scope="module", params=EACH_FAMILY)
def tokenizer(request, prose):
    return family_tokenizer(request.param, [prose[:20_000]])


def test_protected_text_keeps_its_ids_and_the_rest_still_gets_shorter(tokenizer, prose):
    documents = prose.split("\n\n")
    protected, corpus = documents[::8], documents
    pieces, bytes_of_id, first_id = count_pieces(corpus, tokenizer), token_bytes(tokenizer), next_token_id(tokenizer)
    refused = adjacent_pairs(protected, tokenizer)
    freely, carefully = (
        append_merges(
            tokenizer, learn_merges(pieces, bytes_of_id, new_tokens=300, first_id=first_id, refused_pairs=pairs)
        )
        for pairs in ((), refused)
    )
    assert any(freely.encode(text) != tokenizer.encode(text) for text in protected)
    assert [carefully.encode(text) for text in protected] == [tokenizer.encode(text) for text in protected]
    assert sum(len(carefully.encode(text)) for text in corpus) < sum(len(tokenizer.encode(text)) for text in corpus)


@settings(max_examples=100, deadline=None)
@given(pieces=PIECES, protected=PIECES)
def test_no_merge_fires_in_a_protected_piece(pieces, protected):
    refused = {pair for piece in protected for pair in pairwise(piece)}
    merges = learn_merges(pieces, LETTERS, new_tokens=99, first_id=3, minimum_count=1, refused_pairs=refused)
    assert refused.isdisjoint((merge.left, merge.right) for merge in merges)


@settings(max_examples=100, deadline=None)
@given(pieces=PIECES)
def test_refusing_a_pair_that_never_occurs_changes_nothing(pieces):
    refused = {(-7, -8)}
    assert learn_merges(pieces, LETTERS, new_tokens=99, first_id=3, refused_pairs=refused) == learn_merges(
        pieces, LETTERS, new_tokens=99, first_id=3
    )


def test_learning_goes_on_past_a_refused_pair():
    learned = learn_merges({(0, 1, 2): 5, (1, 2): 1}, LETTERS, new_tokens=9, first_id=7, refused_pairs={(1, 2)})
    assert [(merge.token, merge.token_bytes, merge.count) for merge in learned] == [(7, b"ab", 5), (8, b"abc", 5)]


def test_the_pairs_are_those_within_pieces(small_tokenizer):
    ids = small_tokenizer.encode("unbelievable")
    assert len(ids) > 2
    assert adjacent_pairs(["unbelievable the the", "unbelievable"], small_tokenizer) == set(pairwise(ids))
