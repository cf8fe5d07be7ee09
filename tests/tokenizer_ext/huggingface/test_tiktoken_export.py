import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tests.tokenizer_ext.families import FAMILIES, LLAMA_3_PATTERN, QWEN_PATTERN, family_tokenizer
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN
from tokenizer_ext.bpe.tiktoken_files import merges_from_ranks
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, append_merges, next_token_id, token_bytes
from tokenizer_ext.huggingface.pattern_of_tokenizer import split_pattern_of
from tokenizer_ext.huggingface.tiktoken_export import export_tiktoken, normalized, normalizer_name, twin_of

CONTROL = ["<|user|>", "<|end|>"]
ADDED = [*CONTROL, "<|endoftext|>", "<|im_end|>", "<tool_call>", "|||EMAIL_ADDRESS|||", "<|"]
BLANKS = [" ", "  ", "   ", " " * 24, " " * 51, "\n", "\r\n", "\t", "\u00a0"]
OTHERS = ["the class ", "e\u0301", "'ll", "'S", "1", "234", "\u0338"]
ANY_TEXT = st.lists(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from([*ADDED, *BLANKS, *OTHERS]))
).map("".join)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, marks=[] if one in ("gpt2", "qwen 2") else pytest.mark.long)
        for one in sorted(set(FAMILIES) - {"qwen 3", "olmo"})  # as Qwen 2 and GPT-NeoX
    ],
)
def encoders(request, prose):
    """A tokenizer of the family with 60 new tokens and two control tokens, its encoding, and its twin."""
    base = family_tokenizer(request.param, [prose])
    pieces = count_pieces([prose, "Größe 東京都は日本の首都。 1234 " * 9], base)
    merges = learn_merges(pieces, token_bytes(base), new_tokens=60, first_id=next_token_id(base))
    tokenizer = add_control_tokens(append_merges(base, merges), CONTROL)
    return tokenizer, export_tiktoken(tokenizer, request.param), twin_of(tokenizer)


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
@example("a" + " " * 25 + "b\n   c\t  d \n \n  e" + " " * 49 + "\n")
@example("12  34 \U00011de0\U00011de1 \u0660x½")
def test_tokenizer_tiktoken_and_twin_give_equal_ids(encoders, text):
    tokenizer, encoding, twin = encoders
    ids = tokenizer.encode(text, add_special_tokens=False)
    plain = normalized(text, tokenizer)
    assert encoding.encode(plain, allowed_special="all") == ids
    assert twin.encode(plain, allowed_special="all") == ids


def test_all_of_some_prose_has_equal_ids_and_every_id_can_be_decoded(encoders, prose):
    tokenizer, encoding, twin = encoders
    ids = tokenizer.encode(prose, add_special_tokens=False)
    assert encoding.encode(prose) == twin.encode(prose) == ids
    assert max(ids) > 400
    added = {token.encode() for token in tokenizer.get_added_vocab()}
    for id_, token in token_bytes(tokenizer).items():
        if token in added and id_ not in tokenizer.added_tokens_decoder:
            continue  # two spaces that were merged: text has the added token of that name in their place
        assert encoding.decode_single_token_bytes(id_) == twin.decode_bytes([id_]) == token


def test_the_name_of_an_encoding_says_what_its_text_must_go_through_first(small_tokenizer, prose):
    assert export_tiktoken(small_tokenizer, "small").name == "small"
    assert normalizer_name(small_tokenizer) == ""
    qwen = family_tokenizer("qwen 2", [prose])
    assert normalizer_name(qwen) == "NFC"
    encoding = export_tiktoken(qwen, "qwen")
    assert encoding.name == "qwen of NFC text"
    assert encoding.encode("e\u0301") != qwen.encode("e\u0301") == encoding.encode(normalized("e\u0301", qwen))


def test_added_tokens_are_found_in_the_text_before_it_is_normalised(prose):
    qwen = family_tokenizer("qwen 2", [prose])
    text = "e\u0301<|im_end|>\u0338"  # NFC would join the last two characters to one
    assert normalized(text, qwen) == "é<|im_end|>\u0338"
    ids = export_tiktoken(qwen, "qwen").encode(normalized(text, qwen), allowed_special="all")
    assert ids == qwen.encode(text)


# patterns


def _tokenizer(small_bpe, pre_tokenizer, *, added=(), **model):
    vocabulary = {visible(token): rank for token, rank in small_bpe.ranks.items()}
    merges = [(visible(left), visible(right)) for left, right in merges_from_ranks(small_bpe.ranks)]
    backend = Tokenizer(models.BPE(**{"vocab": vocabulary, "merges": merges, **model}))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoders.ByteLevel()
    backend.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def _split(pattern, behavior="isolated", **settings):
    return pre_tokenizers.Split(Regex(pattern), behavior, **settings)


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


def test_the_pattern_is_the_one_that_the_family_publishes(prose):
    patterns = {family: split_pattern_of(family_tokenizer(family, [prose], ranks=300)) for family in FAMILIES}
    assert patterns["gpt2"] == patterns["gpt-neox"] == GPT2_SPLIT_PATTERN
    assert patterns["llama 3"] == patterns["olmo 2"] == LLAMA_3_PATTERN
    assert patterns["qwen 2"] == patterns["qwen 3"] == QWEN_PATTERN


@pytest.mark.parametrize(
    "stages",
    [
        [pre_tokenizers.Digits(individual_digits=False), GPT2],
        [_split(LLAMA_3_PATTERN, "removed", invert=True), BYTES],
        [_split("[a-z ]+"), BYTES],  # what lies between the matches is a piece too
        [_split("[a-z ]+", "removed", invert=True), BYTES],  # ... or is dropped
    ],
)
def test_other_ways_to_cut_are_one_pattern_too(small_bpe, stages):
    tokenizer = _tokenizer(small_bpe, pre_tokenizers.Sequence(stages))
    encoding, twin = export_tiktoken(tokenizer, "x"), twin_of(tokenizer)
    text = "The class 1234  DEF ghi\n\nIt's  ½x\t"
    assert encoding.encode(text) == twin.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("pre_tokenizer", "found"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=True), "puts a space before"),
        (pre_tokenizers.Sequence([_split(r"\p{N}{1,3}"), _split(LLAMA_3_PATTERN), BYTES]), "Split, Split, ByteLevel"),
        (pre_tokenizers.Sequence([_split(LLAMA_3_PATTERN), GPT2]), "Split, ByteLevel"),
        (pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), GPT2]), "Punctuation, ByteLevel"),
        (pre_tokenizers.Sequence([_split(LLAMA_3_PATTERN, "merged_with_next"), BYTES]), "Split, ByteLevel"),
        (pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "isolated"), BYTES]), "Split, ByteLevel"),
        # Read as in Ruby, this takes any number of digits; tiktoken and `regex` take three and give none back.
        (pre_tokenizers.Sequence([_split(r"\p{N}{1,3}+|\P{N}+"), BYTES]), "reads "),
    ],
)
def test_a_pre_tokenizer_that_is_not_certain_to_be_one_pattern_is_refused_by_its_stages(
    small_bpe, pre_tokenizer, found
):
    digits = {"11": 399, "111": 400}
    with pytest.raises(InputError) as error:
        tokenizer = _tokenizer(small_bpe, pre_tokenizer)
        export_tiktoken(_with_merges(tokenizer, digits), "x")
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def _with_merges(tokenizer, tokens, **flags):
    """The tokenizer with each of `tokens` as what its text but the last character, and the last, become."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["model"]["vocab"] |= tokens
    backend["model"]["merges"] += [[token[:-1], token[-1]] for token in tokens]
    backend["model"] |= flags
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(backend)))


# ranks and added tokens


def test_a_merge_that_is_not_how_its_bytes_come_together_is_refused(small_tokenizer):
    with_q = {"qz": 400, "zx": 401, "qzx": 402}
    assert twin_of(_with_merges(small_tokenizer, with_q)).encode("qzx") == [402]
    # Here the merge is q + zx, but of the two q + z is joined first.
    broken = json.loads(_with_merges(small_tokenizer, with_q).backend_tokenizer.to_str())
    broken["model"]["merges"][-1] = ["q", "zx"]
    broken = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(broken)))
    for export in (twin_of, lambda tokenizer: export_tiktoken(tokenizer, "x")):
        with pytest.raises(InputError, match=r"found the token b'qzx' \(id 402\)"):
            export(broken)


def test_a_token_that_is_found_as_a_whole_piece_only_is_exported_where_no_other_pair_spells_it(small_bpe):
    vocabulary = {visible(token): rank for token, rank in small_bpe.ranks.items()}
    whole = _tokenizer(small_bpe, GPT2, vocab=vocabulary | {"qjxk": 399}, ignore_merges=True)
    assert export_tiktoken(whole, "x").encode("qjxk qjxk") == whole.encode("qjxk qjxk")
    long = max((token for token in vocabulary if token.isascii() and token.isalpha()), key=len)
    spelled = _tokenizer(small_bpe, GPT2, vocab=vocabulary | {long + long: 399}, ignore_merges=True)
    with pytest.raises(InputError, match=f"b'{long}{long}'"):
        export_tiktoken(spelled, "x")


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_an_added_token_that_minds_what_stands_around_it_is_refused(small_bpe, flag):
    tokenizer = _tokenizer(small_bpe, GPT2, added=[AddedToken("<mask>", **{flag: True})])
    with pytest.raises(InputError, match=f"'<mask>' with {flag}"):
        export_tiktoken(tokenizer, "x")


def test_added_words_that_begin_like_another_are_exported_right_or_refused(small_bpe):
    words = ["<a", "<a><b", "<a><b>", "<a>", "<a><b><c>"]
    tokenizer = _tokenizer(small_bpe, GPT2, added=[AddedToken(word) for word in words])
    text = "x<a><b><c><a><b>y<a>z<a><b<a"
    assert twin_of(tokenizer).encode(text, allowed_special="all") == tokenizer.encode(text)
    try:
        encoding = export_tiktoken(tokenizer, "x")
    except InputError as error:
        assert "found that tiktoken reads" in str(error)
    else:
        assert encoding.encode(text, allowed_special="all") == tokenizer.encode(text)


def test_added_runs_of_spaces_with_a_length_left_out_are_refused(small_bpe):
    tokenizer = _tokenizer(small_bpe, GPT2, added=[AddedToken("  "), AddedToken("    ")])
    with pytest.raises(InputError, match="runs of 2, 4 spaces"):
        export_tiktoken(tokenizer, "x")


def test_dropout_is_refused(small_bpe):
    with pytest.raises(InputError, match="dropout"):
        export_tiktoken(_tokenizer(small_bpe, GPT2, dropout=0.1), "x")
