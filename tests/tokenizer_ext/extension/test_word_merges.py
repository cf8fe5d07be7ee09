import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from configs import InputError
from tests.tokenizer_ext.families import EACH_FAMILY, family_tokenizer
from tokenizer_ext.extension.piece_counts import adjacent_pairs
from tokenizer_ext.extension.reachability import assert_reachable
from tokenizer_ext.extension.word_merges import learn_words
from tokenizer_ext.huggingface.hf_tokenizer import append_merges

WORDS = ["thrombocytopenia", " thrombocytopenia", " thrombosis", "Größenwahn", "東京都", "qqq", " 🙂🙃", "xyzzy"]
"""A word of which no family has a token, each kept whole by the pre-tokenizer of every family."""


@pytest.fixture(scope="module", params=EACH_FAMILY)
def tokenizer(request, prose):
    return family_tokenizer(request.param, [prose[:20_000]])


def _encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def test_each_word_is_one_token_alone_and_wherever_the_tokenizer_gives_it_as_a_piece(tokenizer):
    merges = learn_words(WORDS, tokenizer)
    extended = append_merges(tokenizer, merges)
    assert_reachable(extended, merges)
    ids = {merge.token_bytes: merge.token for merge in merges}
    for word in WORDS:
        assert _encode(extended, word) == [ids[word.encode()]]
        for before, after in (("\n", "\n"), ("(", ")"), ("The", ".")):
            text = f"{before}{word}{after}" if word.startswith(" ") or before != "The" else f"The\n{word}."
            assert ids[word.encode()] in _encode(extended, text), text


def test_words_share_the_tokens_between(small_tokenizer):
    words = [" thrombocyte", " thrombocytes", " thrombocytic"]
    alone = sum(len(learn_words([word], small_tokenizer)) for word in words)
    assert len(learn_words(words, small_tokenizer)) < alone


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.text("abcXYZ", min_size=9, max_size=20), min_size=1, max_size=12, unique=True))
@example(words=["aaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaa", "baaaaaaaaaaaaaaaaaaa"])
@example(words=["abcabcabc", "bcabcabca", "cabcabcab", "abcabcabcabcabcabc"])
def test_any_list_of_new_words_becomes_single_tokens(small_tokenizer, words):
    extended = append_merges(small_tokenizer, learn_words(words, small_tokenizer))
    assert [len(_encode(extended, word)) for word in words] == [1] * len(words)


def test_digits_are_allowed_for_the_user_asked(small_tokenizer):
    (merge,) = learn_words(["90210"], small_tokenizer)[-1:]
    assert merge.token_bytes == b"90210"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["thrombosis", ""], "'' is empty"),
        (["xyzzyx", "xyzzyx"], "'xyzzyx' stands 2 times"),
        ([" the"], "' the' is a token already"),
        (["<|endoftext|>"], "'<|endoftext|>' is the added token '<|endoftext|>'"),
        (["x<|endoftext|>"], "'x<|endoftext|>' contains the added token '<|endoftext|>'"),
        (["abc\ud83d"], r"'abc\ud83d' holds half a surrogate pair, which UTF-8 cannot encode"),
        (["COVID-19"], "'COVID-19' is cut into 'COVID', '-', '19'"),
        (["two words"], "'two words' is cut into 'two', ' words'"),
    ],
)
def test_a_word_that_cannot_be_a_token_is_refused_by_name_with_the_reason(small_tokenizer, words, message):
    with pytest.raises(InputError) as refused:
        learn_words(words, small_tokenizer)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "thrombosis" not in str(refused.value)


def test_all_offending_words_are_named_at_once(small_tokenizer):
    protected = adjacent_pairs(["unbelievable"], small_tokenizer)
    words = ["", "COVID-19", "a\nb", "thrombosis", " the", "unbelievable"]
    with pytest.raises(InputError) as refused:
        learn_words(words, small_tokenizer, refused_pairs=protected)
    message = str(refused.value)
    assert [word for word in words if f"{word!r} " in message] == [word for word in words if word != "thrombosis"]
    assert r"'a\nb' is cut into 'a', '\n', 'b'" in message


def test_a_word_that_protected_text_blocks_is_refused_with_the_pair(small_tokenizer):
    protected = adjacent_pairs(["tokenizer"], small_tokenizer)
    with pytest.raises(
        InputError, match=r"'tokenizer' would need a pair of the protected text \('t' \+ 'o', "
    ) as refused:
        learn_words(["tokenizer", "thrombosis"], small_tokenizer, refused_pairs=protected)
    assert "thrombosis" not in str(refused.value)
    assert learn_words(["thrombosis"], small_tokenizer, refused_pairs=protected)


def test_an_added_word_within_longer_ones_is_no_obstacle_where_the_tokenizer_does_not_cut_there(small_tokenizer):
    with_word = append_merges(small_tokenizer, [])
    with_word.add_tokens([AddedToken("bos", single_word=True), AddedToken("zyz")])
    assert learn_words(["thrombosis"], with_word)
    with pytest.raises(InputError, match="'xyzyzx' contains the added token 'zyz'"):
        learn_words(["xyzyzx"], with_word)


def test_two_words_that_normalise_to_the_same_are_one(prose):
    qwen = family_tokenizer("qwen 2", [prose[:20_000]])
    with pytest.raises(InputError, match="is the same as 'cafébar' to this tokenizer"):
        learn_words(["cafébar", "cafe\u0301bar"], qwen)
    extended = append_merges(qwen, learn_words(["cafe\u0301bar"], qwen))
    assert len(_encode(extended, "cafébar")) == 1


def test_no_words_are_no_merges(small_tokenizer):
    assert learn_words([], small_tokenizer) == []
