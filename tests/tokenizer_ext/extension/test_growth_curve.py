from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.extension.growth_curve import knee_of, measure_growth, rarely_seen
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.huggingface.hf_tokenizer import append_merges, next_token_id, token_bytes

PIECES = st.dictionaries(
    st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), st.integers(1, 5), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def documents(prose):
    return prose.split("\n\n")


@pytest.fixture(scope="module")
def learned(documents, small_tokenizer):
    """Merges from nine of ten documents, and their curve on the rest."""
    to_learn = [text for number, text in enumerate(documents) if number % 10]
    held_out = documents[::10]
    pieces = count_pieces(to_learn, small_tokenizer)
    first_new_id = next_token_id(small_tokenizer)
    merges = learn_merges(pieces, token_bytes(small_tokenizer), new_tokens=200, first_id=first_new_id)
    curve = measure_growth(
        pieces,
        count_pieces(held_out, small_tokenizer),
        sum(len(text.encode()) for text in held_out),
        merges,
        first_new_id,
        rarely=10,
        epochs=2.0,
    )
    return to_learn, held_out, merges, curve


def test_every_point_is_what_a_tokenizer_with_so_many_tokens_measures(learned, small_tokenizer):
    to_learn, held_out, merges, curve = learned
    first_new_id = next_token_id(small_tokenizer)
    for point in curve.points[::4]:
        extended = append_merges(small_tokenizer, merges[: point.new_tokens])
        tokens = sum(len(extended.encode(text)) for text in held_out)
        assert point.bytes_per_token == sum(len(text.encode()) for text in held_out) / tokens
        counts = Counter(id_ for text in to_learn for id_ in extended.encode(text))
        uses = [2 * counts[first_new_id + index] for index in range(point.new_tokens)]
        assert point.rarely_seen == sum(count < 10 for count in uses)


def test_uses_are_how_often_each_token_stands_in_the_encoded_corpus_times_the_epochs(learned, small_tokenizer):
    to_learn, _, merges, curve = learned
    extended = append_merges(small_tokenizer, merges)
    counts = Counter(id_ for text in to_learn for id_ in extended.encode(text))
    assert list(curve.uses) == [2 * counts[merge.token] for merge in merges]
    assert min(curve.uses) < max(curve.uses)


def test_bytes_per_token_never_falls_and_the_points_go_from_none_to_all(learned):
    _, _, merges, curve = learned
    values = [point.bytes_per_token for point in curve.points]
    assert values == sorted(values)
    assert [curve.points[0].new_tokens, curve.points[-1].new_tokens] == [0, len(merges)]
    assert curve.knee in curve.points
    assert 0 < curve.knee.new_tokens < len(merges)


def test_the_knee_of_a_bent_line_is_where_it_bends():
    assert knee_of([min(3 * n, 60 + n) for n in range(101)]) == 30


def test_a_straight_line_and_a_single_point_have_their_knee_at_the_start():
    assert knee_of([1.0, 2.0, 3.0]) == 0
    assert knee_of([5.0]) == 0


@settings(max_examples=100, deadline=None)
@given(pieces=PIECES, held_out=PIECES, new_tokens=st.integers(0, 9))
def test_any_pieces_give_a_curve_in_which_uses_add_up(pieces, held_out, new_tokens):
    merges = learn_merges(pieces, [b"a", b"b", b"c"], new_tokens=new_tokens, first_id=3)
    curve = measure_growth(pieces, held_out, 1000, merges, 3, rarely=2)
    assert [point.new_tokens for point in curve.points] == list(range(len(merges) + 1)) or len(merges) > 4
    assert len(curve.uses) == len(merges)
    assert all(count >= 0 for count in curve.uses)
    assert curve.points[-1].rarely_seen == len(rarely_seen(curve.uses, 2))


def test_without_merges_the_curve_is_the_base_alone():
    curve = measure_growth({(0, 1): 1}, {(0, 1): 2, (1,): 2}, 12, [], 2)
    assert [(point.new_tokens, point.bytes_per_token, point.rarely_seen) for point in curve.points] == [(0, 2.0, 0)]
    assert (curve.knee, curve.uses) == (curve.points[0], ())
