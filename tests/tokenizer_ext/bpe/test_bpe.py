import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from configs import InputError, MissingInput
from tokenizer_ext.bpe.bpe import BytePairEncoding, train_bpe
from tokenizer_ext.bpe.byte_characters import GPT2_BYTE_ORDER, from_visible, visible
from tokenizer_ext.bpe.piece_encoding import merge_by_rank
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN, GPT4_SPLIT_PATTERN

# All of Unicode without surrogates; whitespace, contractions, digits and special tokens more often than by chance.
ANY_TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.sampled_from(
            [" ", "  ", "\n", "\r\n", "\t ", "\u00a0", "\u2028", "'ll", "'S", "12", "½", "<|endoftext|>", "|>"]
        ),
    )
).map("".join)
ANY_TEXT_IN_UTF16 = st.text(st.characters(), max_size=20)


def _tiktoken(bpe: BytePairEncoding) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        "authority", pat_str=GPT2_SPLIT_PATTERN, mergeable_ranks=bpe.ranks, special_tokens=bpe.special_tokens
    )


@pytest.fixture(scope="module")
def authority(gpt2_bpe):
    return _tiktoken(gpt2_bpe)


def test_ids_equal_tiktokens_on_all_of_tiny_shakespeare(gpt2_bpe, authority, shakespeare):
    ids = gpt2_bpe.encode(shakespeare)
    assert ids == authority.encode(shakespeare)
    assert gpt2_bpe.decode(ids) == shakespeare


@settings(max_examples=400, deadline=None)
@given(text=ANY_TEXT)
def test_ids_and_text_equal_tiktokens_on_any_unicode(gpt2_bpe, authority, text):
    assert gpt2_bpe.encode_ordinary(text) == authority.encode_ordinary(text)
    ids = gpt2_bpe.encode(text, allowed_special="all")
    assert ids == authority.encode(text, allowed_special="all")
    assert gpt2_bpe.decode(ids) == text


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT_IN_UTF16)
@example("\ud83d\ude00 and a lone \ud83d")
def test_surrogates_are_read_as_tiktoken_reads_them(gpt2_bpe, authority, text):
    assert gpt2_bpe.encode_ordinary(text) == authority.encode_ordinary(text)


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 50256)))
def test_any_ids_decode_as_tiktoken_decodes_them(gpt2_bpe, authority, ids):
    assert gpt2_bpe.decode(ids) == authority.decode(ids)
    assert gpt2_bpe.decode_bytes(ids) == authority.decode_bytes(ids)


def test_a_pre_token_of_a_hundred_thousand_bytes_is_encoded_as_by_tiktoken(gpt2_bpe, authority, shakespeare):
    letters = "".join(character for character in shakespeare if character.isalpha())[:100_000]
    assert gpt2_bpe.encode(letters) == authority.encode(letters)


SPECIAL_TEXT = "a<|x|>b<|y|>c<|z|>"


@pytest.mark.parametrize("allowed", [frozenset(), {"<|x|>"}, {"<|x|>", "<|y|>"}, {"<|x|>", "not one"}, "all"])
@pytest.mark.parametrize("disallowed", [(), {"<|y|>"}, {"c"}, {"<|x|>"}, "all"])
def test_special_tokens_are_allowed_and_disallowed_as_in_tiktoken(small_bpe, allowed, disallowed):
    bpe = BytePairEncoding(small_bpe.ranks, special_tokens={"<|x|>": 900, "<|y|>": 901, "<|z|>": 902})
    authority = _tiktoken(bpe)
    try:
        expected = authority.encode(SPECIAL_TEXT, allowed_special=allowed, disallowed_special=disallowed)
    except ValueError:
        with pytest.raises(InputError, match="found the special token"):
            bpe.encode(SPECIAL_TEXT, allowed_special=allowed, disallowed_special=disallowed)
    else:
        assert bpe.encode(SPECIAL_TEXT, allowed_special=allowed, disallowed_special=disallowed) == expected


@pytest.mark.parametrize(
    ("special", "allowed", "text"),
    [(("aba",), "all", "ababababa"), (("ab", "bc"), {"bc"}, "abcab"), (("ab", "bc"), "all", "abcbc")],
)
def test_special_tokens_that_overlap_in_the_text_are_found_as_by_tiktoken(small_bpe, special, allowed, text):
    bpe = BytePairEncoding(small_bpe.ranks, special_tokens={token: 900 + n for n, token in enumerate(special)})
    expected = _tiktoken(bpe).encode(text, allowed_special=allowed, disallowed_special=())
    assert bpe.encode(text, allowed_special=allowed, disallowed_special=()) == expected


def test_a_token_that_no_merge_leads_to_is_found_as_a_whole_pre_token_as_by_tiktoken(small_bpe):
    bpe = BytePairEncoding({**small_bpe.ranks, b"zyxw": 900})
    assert bpe.encode("zyxw zyxw") == _tiktoken(bpe).encode("zyxw zyxw")
    assert bpe.encode("zyxw") == [900]


def test_a_disallowed_special_token_is_refused_in_one_line_that_says_what_to_do(small_bpe):
    with pytest.raises(InputError) as error:
        small_bpe.encode("one <|endoftext|> two")
    assert "\n" not in str(error.value)
    for part in ("'<|endoftext|>'", "character 4", "allowed_special={'<|endoftext|>'}", "disallowed_special=()"):
        assert part in str(error.value)


def test_a_special_token_that_begins_like_another_is_found_whole(small_bpe):
    bpe = BytePairEncoding(small_bpe.ranks, special_tokens={"<a>": 900, "<a><b>": 901})
    assert bpe.encode("<a><b><a>", allowed_special="all") == [901, 900]


@pytest.mark.parametrize("pattern", [None, GPT4_SPLIT_PATTERN])
def test_with_another_pattern_or_none_ids_equal_tiktokens_too(prose, pattern):
    bpe = train_bpe([prose], 400, split_pattern=pattern)
    authority = tiktoken.Encoding("x", pat_str=pattern or r"(?s:.+)", mergeable_ranks=bpe.ranks, special_tokens={})
    assert bpe.encode(prose) == authority.encode(prose)
    assert bpe.encode("") == []
    crossing = [token for token in bpe.ranks if b" " in token.strip(b" ")]
    assert bool(crossing) == (pattern is None)


def test_the_published_worked_example_of_bpe_is_learned():
    # https://en.wikipedia.org/wiki/Byte-pair_encoding#Example: aaabdaaabac becomes XdXac with X=ZY, Y=ab, Z=aa.
    bpe = train_bpe(["aaabdaaabac"], 256 + 3, split_pattern=None)
    by_rank = sorted(bpe.ranks, key=bpe.ranks.__getitem__)
    assert by_rank[256:] == [b"aa", b"ab", b"aaab"]
    z, y, x = 256, 257, 258
    letter = {character: bpe.ranks[character.encode()] for character in "acd"}
    assert bpe.encode("aaabdaaabac") == [x, letter["d"], x, letter["a"], letter["c"]]
    assert merge_by_rank(b"aaab", bpe.ranks, below=x) == [by_rank[z], by_rank[y]]


@pytest.mark.parametrize("text", ["prose", "shakespeare"])
def test_the_vocabulary_learned_equals_that_of_the_tokenizers_library(request, text):
    # Ties included: both take the more frequent pair, then the smaller pair of ids, and number the bytes alike.
    text = request.getfixturevalue(text)[:300_000]
    authority = Tokenizer(models.BPE())
    authority.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1_000,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    authority.train_from_iterator([text], trainer)
    learned = train_bpe([text], 1_000)
    assert {visible(token): rank for token, rank in learned.ranks.items()} == authority.get_vocab()
    assert learned.encode(text) == authority.encode(text).ids


def test_the_bytes_come_first_in_gpt2s_order_and_the_special_tokens_last(small_bpe, gpt2_ranks):
    by_rank = sorted(gpt2_ranks, key=gpt2_ranks.__getitem__)
    assert [bytes([byte]) for byte in GPT2_BYTE_ORDER] == by_rank[:256]
    assert sorted(small_bpe.ranks, key=small_bpe.ranks.__getitem__)[:256] == by_rank[:256]
    assert small_bpe.special_tokens == {"<|endoftext|>": 399}
    assert small_bpe.vocabulary_size == 400


def test_the_visible_form_of_every_byte_is_that_of_the_tokenizers_library():
    characters = [visible(bytes([byte])) for byte in range(256)]
    assert set(characters) == set(pre_tokenizers.ByteLevel.alphabet())
    for byte in range(128):
        ((shown, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))
        assert shown == characters[byte]
    assert from_visible("".join(characters)) == bytes(range(256))


def test_nothing_is_learned_from_the_characters_of_special_tokens(prose):
    parts = prose.split("\n\n")
    joined = train_bpe(["<|end|>".join(parts)], 300, special_tokens=["<|end|>"])
    assert joined.ranks == train_bpe(parts, 300, special_tokens=["<|end|>"]).ranks


@pytest.mark.parametrize("pattern", [None, GPT2_SPLIT_PATTERN, GPT4_SPLIT_PATTERN])
def test_saved_and_loaded_it_is_the_same(small_bpe, prose, pattern, tmp_path):
    saved = BytePairEncoding(small_bpe.ranks, pattern, small_bpe.special_tokens)
    saved.save(tmp_path / "bpe.json")
    loaded = BytePairEncoding.load(tmp_path / "bpe.json")
    assert loaded.ranks == saved.ranks
    assert (loaded.split_pattern, loaded.special_tokens) == (pattern, saved.special_tokens)
    assert loaded.encode(prose) == saved.encode(prose)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"ranks": {"中": 0}, "split_pattern": "x", "special_tokens": {}}']
)
def test_a_file_that_is_no_saved_encoding_is_refused_by_name(tmp_path, content):
    path = tmp_path / "bpe.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bpe\.json: found .* expected JSON"):
        BytePairEncoding.load(path)
    with pytest.raises(MissingInput, match="absent"):
        BytePairEncoding.load(tmp_path / "absent")


def test_ids_that_collide_and_bytes_without_a_rank_are_refused(small_bpe):
    with pytest.raises(InputError, match="ids name two tokens, the first 7;"):
        BytePairEncoding(small_bpe.ranks, special_tokens={"<|x|>": 7})
    with pytest.raises(InputError, match="the first 0x61"):
        BytePairEncoding({token: rank for token, rank in small_bpe.ranks.items() if token != b"a"})


def test_a_split_pattern_that_cannot_cut_text_is_refused(small_bpe):
    with pytest.raises(InputError, match="split_pattern: found"):
        BytePairEncoding(small_bpe.ranks, "a(")
    with pytest.raises(InputError, match="split_pattern: found"):
        train_bpe(["abab"], 257, split_pattern="(a|b)+")


def test_a_lone_surrogate_in_training_text_counts_as_the_replacement_character():
    assert train_bpe(["\ud800" * 9], 258).ranks == train_bpe(["\ufffd" * 9], 258).ranks


def test_an_id_in_no_use_is_refused(small_bpe):
    with pytest.raises(InputError, match="found 400"):
        small_bpe.decode([1, 400])


def test_a_vocabulary_too_small_or_too_large_for_the_text_is_refused_with_its_bound(prose):
    with pytest.raises(InputError, match="at least 257"):
        train_bpe([prose], 200, special_tokens=["<|end|>"])
    with pytest.raises(InputError, match="at most 259,"):
        train_bpe(["aaabdaaabac"], 300)
