import random
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.tokenizer_ext.families import EACH_FAMILY, family_tokenizer
from tokenizer_ext.bpe import merge_learning
from tokenizer_ext.bpe.merge_learning import Merge, learn_merges
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.extension.reachability import assert_reachable
from tokenizer_ext.huggingface.hf_tokenizer import append_merges, next_token_id, token_bytes

LETTERS = [b"a", b"b", b"c"]
PIECES = st.dictionaries(
    st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), st.integers(1, 5), min_size=1, max_size=8
)
WORLD = "Größe, naïve café: 東京都は日本の首都である。 中国的首都是北京。 Привет, мир! السلام عليكم 🙂🙃 1234567 "


def _counted_anew(pieces):
    counts: Counter[tuple[int, int]] = Counter()
    for piece, count in pieces.items():
        for pair in pairwise(piece):
            counts[pair] += count
    return counts


def _joined(piece, pair, token):
    joined: list[int] = []
    for id_ in piece:
        if joined and (joined[-1], id_) == pair:
            joined[-1] = token
        else:
            joined.append(id_)
    return tuple(joined)


def _merges_learned_by_counting_anew(pieces, new_tokens, minimum_count):
    """The definition: before each merge count every pair in every piece."""
    merges = []
    for token in range(3, 3 + new_tokens):
        counts = _counted_anew(pieces)
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < minimum_count:
            break
        merges.append((*best, token, counts[best]))
        after: Counter[tuple[int, ...]] = Counter()
        for piece, count in pieces.items():
            after[_joined(piece, best, token)] += count
        pieces = after
    return merges


@settings(max_examples=300, deadline=None)
@given(pieces=PIECES, minimum_count=st.integers(1, 4))
@example(pieces={(0, 0, 0, 0, 0): 1, (0, 0): 1}, minimum_count=1)
@example(pieces={(0, 1, 0, 1, 0, 1, 0): 2, (1, 0, 0, 1): 3}, minimum_count=1)
def test_merges_and_counts_equal_those_of_counting_every_pair_anew(pieces, minimum_count):
    learned = learn_merges(pieces, LETTERS, new_tokens=9, first_id=3, minimum_count=minimum_count)
    assert [
        (merge.left, merge.right, merge.token, merge.count) for merge in learned
    ] == _merges_learned_by_counting_anew(pieces, 9, minimum_count)


@settings(max_examples=100, deadline=None)
@given(pieces=PIECES, new_tokens=st.integers(0, 9))
def test_asking_for_more_tokens_only_adds_to_the_end(pieces, new_tokens):
    every = learn_merges(pieces, LETTERS, new_tokens=99, first_id=3)
    assert learn_merges(pieces, LETTERS, new_tokens=new_tokens, first_id=3) == every[:new_tokens]


@settings(max_examples=100, deadline=None)
@given(pieces=PIECES)
def test_no_two_tokens_have_the_same_bytes(pieces):
    learned = learn_merges(pieces, LETTERS, new_tokens=99, first_id=3, allow=lambda joined: joined != b"ab")
    assert len({merge.token_bytes for merge in learned} | set(LETTERS)) == len(learned) + len(LETTERS)
    assert b"ab" not in {merge.token_bytes for merge in learned}


def test_ties_go_to_the_smaller_pair_of_ids():
    learned = learn_merges({(2, 1): 3, (1, 2): 3, (0, 1): 3}, LETTERS, new_tokens=9, first_id=3)
    assert [merge.token_bytes for merge in learned] == [b"ab", b"bc", b"cb"]


def test_a_token_refused_or_too_long_is_left_out_and_ids_stay_consecutive():
    pieces = {(0, 1, 2): 5, (1, 2): 1}
    assert [merge.token_bytes for merge in learn_merges(pieces, LETTERS, new_tokens=9, first_id=7)] == [b"bc", b"abc"]
    short = learn_merges(pieces, LETTERS, new_tokens=9, first_id=7, maximum_bytes=2)
    assert short == [Merge(left=1, right=2, token=7, token_bytes=b"bc", count=6)]
    without = learn_merges(pieces, LETTERS, new_tokens=9, first_id=7, allow=lambda joined: joined != b"bc")
    assert [(merge.token, merge.token_bytes) for merge in without] == [(7, b"ab"), (8, b"abc")]


def test_bytes_that_are_a_token_already_are_not_learned_again():
    vocabulary = {0: b"a", 1: b"b", 2: b"ab"}  # a base with a token that its own merges do not reach
    assert learn_merges({(0, 1): 9}, vocabulary, new_tokens=9, first_id=3) == []


def test_one_long_piece_takes_no_more_steps_than_the_same_ids_in_short_ones():
    # A learner that scans a piece anew for each of its merges takes hundreds of times as many for the long one.
    letters = random.Random(0).choices(range(7), k=3000)
    short = Counter(tuple(letters[start : start + 10]) for start in range(0, len(letters), 10))
    assert _lines_run({tuple(letters): 1}) < 2 * _lines_run(short)


def _lines_run(pieces):
    """How many lines of the learner's file run until it has learned."""
    count = 0

    def follow(frame, event, _):
        nonlocal count
        count += event == "line"
        return follow if frame.f_code.co_filename == merge_learning.__file__ else None

    tracing = sys.gettrace()
    sys.settrace(follow)
    try:
        learned = learn_merges(pieces, [bytes([letter]) for letter in range(7)], new_tokens=100, first_id=7)
    finally:
        sys.settrace(tracing)
    assert len(learned) == 100
    return count


def test_merges_equal_those_of_the_tokenizers_library_on_base_ids(gpt2_tokenizer, gpt2_ranks, shakespeare):
    # The library's trainer, given one private-use character for each base id, and words repeated by their count.
    pieces = count_pieces([shakespeare[:150_000]], gpt2_tokenizer)
    words = [("".join([chr(0xF0000 + id_) for id_ in piece]), count) for piece, count in pieces.items()]
    authority = Tokenizer(models.BPE())
    authority.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=10**6, min_frequency=10, show_progress=False)
    authority.train_from_iterator((" ".join([word] * count) for word, count in words), trainer)
    learned = learn_merges(
        pieces, token_bytes(gpt2_tokenizer), new_tokens=10**6, first_id=next_token_id(gpt2_tokenizer), minimum_count=10
    )
    text = {id_: chr(0xF0000 + id_) for id_ in gpt2_ranks.values()}
    for merge in learned:
        text[merge.token] = text[merge.left] + text[merge.right]
    vocabulary = authority.get_vocab()
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    assert len(learned) > 50
    assert by_id[-len(learned) :] == [text[merge.token] for merge in learned]


@pytest.fixture(scope="module", params=EACH_FAMILY)
def tokenizer(request, prose):
    return family_tokenizer(request.param, [prose[:20_000]])


def test_every_new_token_is_reached_and_no_text_gets_longer(tokenizer, prose):
    texts = [*prose.split("\n\n"), WORLD]
    merges = learn_merges(
        count_pieces([*texts, WORLD * 5], tokenizer),
        token_bytes(tokenizer),
        new_tokens=300,
        first_id=next_token_id(tokenizer),
    )
    extended = append_merges(tokenizer, merges)
    assert_reachable(extended, merges)
    for text in texts:
        assert len(extended.encode(text)) <= len(tokenizer.encode(text))
    for merge in merges:
        if (text := _whole_text(merge)) and _keeps(tokenizer, text):
            assert extended.encode(text, add_special_tokens=False) == [merge.token], text


@pytest.fixture(scope="module")
def extended(tokenizer, prose):
    """The tokenizer with every token that the text supports."""
    pieces = count_pieces([*prose.split("\n\n"), WORLD * 5], tokenizer)
    return append_merges(
        tokenizer,
        learn_merges(pieces, token_bytes(tokenizer), new_tokens=5000, first_id=next_token_id(tokenizer)),
    )


TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from([*WORLD, "the ", "ing", " class", "\n", "  ", "e\u0301", "<|endoftext|>"]), max_size=30
    ).map("".join),
)


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_no_text_whatever_is_longer_or_decodes_differently(tokenizer, extended, text):
    before, after = (one.backend_tokenizer.encode(text, add_special_tokens=False).ids for one in (tokenizer, extended))
    assert len(after) <= len(before)
    assert extended.decode(after) == tokenizer.decode(before)


def _whole_text(merge):
    """The text of a token, or nothing for bytes within a character, which assert_reachable has seen in the model."""
    text = merge.token_bytes.decode(errors="ignore")
    return text if text.encode() == merge.token_bytes else ""


def _keeps(tokenizer, text):
    """Whether a tokenizer reads `text` alone as it does within a line: some put a space before it."""
    return tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_token_that_no_merge_reaches_breaks_rule_r(tokenizer):
    # "abQ" cut as "a" + "bQ", where the base joins "ab" first.
    bytes_of_id, first_id = token_bytes(tokenizer), next_token_id(tokenizer)
    ids = {token: id_ for id_, token in bytes_of_id.items()}
    joined = next(token for token in ids if len(token) == 2 and token.isalpha())
    reached = Merge(ids[joined[1:]], ids[b"Q"], first_id, joined[1:] + b"Q", count=1)
    unreached = Merge(ids[joined[:1]], first_id, first_id + 1, joined + b"Q", count=1)
    extended = append_merges(tokenizer, [reached, unreached])
    assert_reachable(extended, [reached])
    with pytest.raises(AssertionError, match="is not reached"):
        assert_reachable(extended, [reached, unreached])


def test_without_digits_every_number_keeps_its_ids(small_tokenizer):
    text = "It is 50000 or 12345 or 50000 words of 1999. " * 20
    pieces = count_pieces([text], small_tokenizer)
    bytes_of_id, first_id = token_bytes(small_tokenizer), next_token_id(small_tokenizer)
    assert b" 50000" in {
        merge.token_bytes for merge in learn_merges(pieces, bytes_of_id, new_tokens=50, first_id=first_id)
    }
    merges = learn_merges(
        pieces,
        bytes_of_id,
        new_tokens=50,
        first_id=first_id,
        allow=lambda joined: not any(48 <= byte < 58 for byte in joined),
    )
    extended = append_merges(small_tokenizer, merges)
    numbers = " 50000 12345 1999"
    assert extended.encode(numbers) == small_tokenizer.encode(numbers)
