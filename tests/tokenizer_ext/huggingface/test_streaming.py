import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.huggingface.streaming import TextStream


def _streamed(decode, ids):
    stream = TextStream(decode)
    return [*(stream.push(id_) for id_ in ids), stream.flush()]


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@example("a\u0301 👩‍👩‍👧 \ufffd\ufffd end")
def test_text_streamed_is_the_text(small_tokenizer, text):
    ids = small_tokenizer.encode(text)
    assert "".join(_streamed(small_tokenizer.decode, ids)) == text


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 399)))
def test_any_ids_stream_to_what_they_decode_to_at_once(small_tokenizer, small_bpe, ids):
    assert "".join(_streamed(small_bpe.decode, ids)) == small_bpe.decode(ids)

    def without_special(ids):
        return small_tokenizer.decode(ids, skip_special_tokens=True)

    assert "".join(_streamed(without_special, ids)) == without_special(ids)


def test_a_character_of_several_tokens_comes_whole_with_its_last_token(small_bpe):
    ids = small_bpe.encode("x🙂y")
    assert len(ids) == 6
    assert _streamed(small_bpe.decode, ids) == ["x", "", "", "", "🙂", "y", ""]


def test_what_never_became_a_character_comes_at_the_end(small_bpe):
    ids = small_bpe.encode("x🙂")[:-1]
    assert _streamed(small_bpe.decode, ids) == ["x", "", "", "", "\ufffd"]


def test_after_a_flush_the_stream_starts_afresh(small_bpe):
    stream = TextStream(small_bpe.decode)
    first = [stream.push(id_) for id_ in small_bpe.encode("é")[:1]] + [stream.flush()]
    second = [stream.push(id_) for id_ in small_bpe.encode("hi")] + [stream.flush()]
    assert "".join(first) == "\ufffd"
    assert "".join(second) == "hi"


WORDS = {"<unk>": 0, "▁the": 1, "▁cat": 2, "s": 3, "<end>": 4}
BYTES = {f"<0x{byte:02X}>": len(WORDS) + byte for byte in range(256)}


@pytest.fixture(scope="module")
def sentencepiece_like():
    """Words whose mark "▁" is dropped at the start of a text, and bytes, each U+FFFD until its character ends."""
    backend = Tokenizer(models.BPE(vocab=WORDS | BYTES, merges=[], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<end>")


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.sampled_from(["▁the", "▁cat", "<end>", "s", "é", "🙂", "中"])))
@example(parts=["▁the", "<end>", "▁cat"])
def test_words_keep_their_spaces_where_the_decoder_drops_the_first(sentencepiece_like, parts):
    ids = []
    for part in parts:
        ids += [WORDS[part]] if part in WORDS else [len(WORDS) + byte for byte in part.encode()]

    def decode(ids):
        return sentencepiece_like.decode(ids, skip_special_tokens=True)

    assert "".join(_streamed(decode, ids)) == decode(ids)
