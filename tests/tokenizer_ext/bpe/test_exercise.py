import pytest
import tiktoken
from hypothesis import given, settings

from configs import InputError
from tests.tokenizer_ext.bpe.test_bpe import ANY_TEXT
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.bpe.byte_characters import GPT2_BYTE_ORDER
from tokenizer_ext.bpe.exercise import PlainTokenizer, learn, recover
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN, GPT4_SPLIT_PATTERN

GPT2_IDS = [GPT2_BYTE_ORDER.index(byte) for byte in range(256)]


@pytest.fixture(scope="module")
def recovered(gpt2_ranks) -> PlainTokenizer:
    return recover(gpt2_ranks, GPT2_SPLIT_PATTERN, {"<|endoftext|>": 50256})


@pytest.fixture(scope="module")
def authority(gpt2_ranks) -> tiktoken.Encoding:
    special = {"<|endoftext|>": 50256}
    return tiktoken.Encoding("gpt2", pat_str=GPT2_SPLIT_PATTERN, mergeable_ranks=gpt2_ranks, special_tokens=special)


@pytest.mark.parametrize("pattern", [None, GPT2_SPLIT_PATTERN, GPT4_SPLIT_PATTERN])
def test_what_is_learned_equals_the_fast_twin_token_by_token(prose, pattern):
    learned, twin = learn(prose[:8000], 300, pattern, GPT2_IDS), train_bpe([prose[:8000]], 300, split_pattern=pattern)
    assert {token: id_ for id_, token in learned.token_bytes().items()} == twin.ranks
    assert learned.encode(prose[8000:9000]) == twin.encode(prose[8000:9000])


def test_the_merges_recovered_alone_give_tiktokens_ids(recovered, authority, shakespeare):
    text = shakespeare[:50_000] + "<|endoftext|> 안녕하세요 😉"
    assert recovered.encode(text) == authority.encode_ordinary(text)
    assert recovered.encode(text, with_special=True) == authority.encode(text, allowed_special="all")
    assert len(recovered.merges) == 50_000


@settings(max_examples=25, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_comes_back_and_has_tiktokens_ids(recovered, authority, text):
    ids = recovered.encode(text, with_special=True)
    assert ids == authority.encode(text, allowed_special="all")
    assert recovered.decode(ids) == text


def test_a_token_that_no_merge_leads_to_is_refused_by_name(small_bpe):
    with pytest.raises(InputError, match=r"b'qqzzqq' of rank 900 comes to \d earlier tokens, expected 2"):
        recover({**small_bpe.ranks, b"qqzzqq": 900}, None, {})


def test_learning_ends_where_no_pair_occurs_twice():
    assert len(learn("abc", 300).merges) == 0
