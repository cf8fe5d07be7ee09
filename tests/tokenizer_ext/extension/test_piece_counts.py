import random
import time
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tests.tokenizer_ext.families import EACH_FAMILY, family_tokenizer
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.tiktoken_files import merges_from_ranks
from tokenizer_ext.extension.piece_counts import count_pieces, pieces_of
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes

WORLD = "Größe, nai\u0308ve cafe\u0301: 東京都は日本の首都である。 中国的首都是北京。 Привет! سلام عليكم 🙂🙃 1234567 "
SNIPPETS = [
    " ",
    "  ",
    "\n",
    "\t",
    "a",
    "The",
    " class",
    "'s",
    "12",
    "é",
    "e\u0301",
    "Å",
    "東",
    "🙂",
    "\ud83d",
    "\ude42",
    "\ud83d\ude42",
]
ADDED = [
    "<|endoftext|>",
    "<|im_start|>",
    "<tool_call>",
    "|||IP_ADDRESS|||",
    "   ",
    "yield",
    "YIELD",
    "<left>",
    "<both>",
]
TEXTS = st.lists(st.sampled_from([*SNIPPETS, *ADDED]), max_size=12).map("".join)


def _with_every_kind_of_added_token(ranks):
    """Lower case, a space before each text, and added tokens with every flag."""
    merges = [(visible(left), visible(right)) for left, right in merges_from_ranks(ranks)]
    backend = Tokenizer(models.BPE(vocab={visible(token): rank for token, rank in ranks.items()}, merges=merges))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken("Yield", normalized=True), AddedToken("is", single_word=True, normalized=False)])
    backend.add_tokens([AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<both>", rstrip=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


def _with_words_sought_in_normalised_text(ranks):
    tokenizer = _with_every_kind_of_added_token(ranks).backend_tokenizer
    backend = Tokenizer(tokenizer.model)
    backend.normalizer, backend.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    backend.decoder = tokenizer.decoder
    backend.add_tokens([AddedToken("Yield", normalized=True), AddedToken("YIELD ", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


OWN_KINDS = {"every flag": _with_every_kind_of_added_token, "normalised words": _with_words_sought_in_normalised_text}


@pytest.fixture(scope="module", params=[*EACH_FAMILY, *OWN_KINDS])
def tokenizer(request, prose, small_bpe):
    build = OWN_KINDS.get(request.param)
    return build(small_bpe.ranks) if build else family_tokenizer(request.param, [prose, WORLD * 5])


def _pieces_of_the_pipeline(texts, tokenizer):
    """What the tokenizer's own encode makes of the texts, without what it adds, cuts off or pads."""
    added = set(tokenizer.get_added_vocab().values())
    counted: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        encoding = tokenizer.backend_tokenizer.encode(readable, add_special_tokens=False)
        counted.update(piece for piece in pieces_of(encoding) if added.isdisjoint(piece))
    return counted


def test_the_pieces_are_those_of_the_tokenizers_own_pipeline(tokenizer, prose):
    between = "one <|endoftext|> two<|im_start|>yield  this <left> is <both> YIELD it"
    texts = [*prose.split("\n\n"), WORLD, between, "", *[between + text for text in prose.split("\n\n")[:20]]]
    assert count_pieces(iter(texts), tokenizer) == _pieces_of_the_pipeline(texts, tokenizer)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, max_size=3))
@example(texts=["e\u0301 yiel\u0064 is", "<|endoftext|>", "\ud83d\ude42 \ude42\ud83d"])
def test_they_are_whatever_added_tokens_spaces_accents_or_lone_surrogates_the_text_holds(tokenizer, texts):
    assert count_pieces(texts, tokenizer) == _pieces_of_the_pipeline(texts, tokenizer)


def test_they_come_in_the_same_order_every_time(small_tokenizer, prose):
    forwards = count_pieces([prose, WORLD], small_tokenizer)
    assert list(forwards) == list(count_pieces([WORLD, prose], small_tokenizer))


def test_no_texts_are_no_pieces_and_an_error_while_reading_them_is_raised(small_tokenizer):
    def unreadable():
        yield "a"
        raise OSError("the disk is gone")

    assert count_pieces([], small_tokenizer) == count_pieces([""], small_tokenizer) == Counter()
    with pytest.raises(OSError, match="the disk is gone"):
        count_pieces(unreadable(), small_tokenizer)


def test_a_tokenizer_that_cuts_texts_off_or_fills_them_up_counts_them_whole(small_bpe):
    tokenizer = _with_every_kind_of_added_token(small_bpe.ranks)
    texts = ["one two three <both> four five six"]
    whole = count_pieces(texts, tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    assert count_pieces(texts, tokenizer) == whole


def test_a_whole_token_is_one_id_where_the_base_ignores_merges(small_bpe):
    ranks = {**small_bpe.ranks, b"zyx": 400}  # no merge leads there
    merges = [(visible(left), visible(right)) for left, right in merges_from_ranks(small_bpe.ranks)]
    vocabulary = {visible(token): rank for token, rank in ranks.items()}
    for ignore_merges, length in ((True, 1), (False, 3)):
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        (piece,) = count_pieces(["zyx"], PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>"))
        assert len(piece) == length


@pytest.mark.parametrize("character", ["a", "字", "🙂", " ", "\n", "e\u0301"])
def test_a_piece_of_a_hundred_thousand_characters_takes_no_longer_than_as_much_in_short_ones(character, small_bpe):
    tokenizer = family_tokenizer("qwen 2", ["a"], ranks=256)
    text = "".join(
        random.Random(0).choices([character, character * 2, "b" if character == "a" else character], k=66_000)
    )
    short = [text[start : start + 40] for start in range(0, len(text), 40)]
    assert _seconds([text], tokenizer) < 50 * _seconds(short, tokenizer) + 0.5


def _seconds(texts, tokenizer):
    start = time.process_time()
    pieces = count_pieces(texts, tokenizer)
    bytes_of_id = token_bytes(tokenizer)
    lengths = [sum(len(bytes_of_id[id_]) for id_ in piece) * count for piece, count in pieces.items()]
    assert sum(lengths) >= 66_000
    return time.process_time() - start


def test_a_tokenizer_of_another_family_is_refused_by_name():
    unigram = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0)))
    with pytest.raises(InputError, match=r"Unigram .* expected byte-level BPE"):
        count_pieces(["a"], unigram)
