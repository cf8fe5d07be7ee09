from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    GPT2Config,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5Tokenizer,
)

from configs import InputError
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.bpe.tiktoken_files import merges_from_ranks, to_tiktoken
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.huggingface.hf_tokenizer import (
    add_control_tokens,
    append_merges,
    character_counts,
    merges_from,
    next_token_id,
    ranks_of,
    to_hf_tokenizer,
    token_bytes,
)

CONTROL = ["<|user|>", "<|assistant|>", "<|end|>"]
FIRST_FREE_ID = 400  # the small vocabulary has 399 ranks and <|endoftext|>
WORLD = "Größe 東京都は日本の首都である。 Привет, мир! 🙂 def __init__(self):\n        pass\n"

# Any text, with control tokens and words of the corpus among it.
ANY_TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.sampled_from([*CONTROL, "<|endoftext|>", "hello", " hello", "<|", "|>", " ", "\n", WORLD, " the class "]),
    )
).map("".join)


def _parts(small_bpe):
    vocabulary = {visible(token): rank for token, rank in small_bpe.ranks.items()}
    return vocabulary, [(visible(left), visible(right)) for left, right in merges_from_ranks(small_bpe.ranks)]


def _ours(small_bpe):
    return to_hf_tokenizer(small_bpe.ranks, small_bpe.special_tokens)


def _gpt2_class(small_bpe):
    vocabulary, merges = _parts(small_bpe)
    return GPT2Tokenizer(vocab=vocabulary | small_bpe.special_tokens, merges=merges)


def _qwen_class(small_bpe):
    """Normalises to NFC; its special tokens stand outside the model's vocabulary, as in the published files."""
    vocabulary, merges = _parts(small_bpe)
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
    assert "<|endoftext|>" not in tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    return tokenizer


def _llama_3_like(small_bpe):
    """Looks up whole pieces first, begins each text with a token, has a pattern and special tokens of its own."""
    vocabulary, merges = _parts(small_bpe)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    backend.post_processor = processors.TemplateProcessing("<|endoftext|> $A", None, [("<|endoftext|>", 399)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


KINDS = {"ours": _ours, "gpt2": _gpt2_class, "qwen": _qwen_class, "llama 3": _llama_3_like}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, small_bpe):
    return KINDS[request.param](small_bpe)


def _learn(tokenizer, texts, new_tokens=60, first_id=None):
    first_id = next_token_id(tokenizer) if first_id is None else first_id
    return learn_merges(
        count_pieces(texts, tokenizer), token_bytes(tokenizer), new_tokens=new_tokens, first_id=first_id
    )


@pytest.fixture(scope="module")
def merges(tokenizer, prose):
    return _learn(tokenizer, [prose, WORLD * 9])


@pytest.fixture(scope="module")
def extended(tokenizer, merges):
    return add_control_tokens(append_merges(tokenizer, merges), CONTROL)


def _reloaded(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    GPT2Config().save_pretrained(folder)  # the tokenizer's class is chosen as it is in a model's folder
    return AutoTokenizer.from_pretrained(folder)


# ranks to a tokenizer


@pytest.fixture(scope="module")
def authority(gpt2_bpe):
    return to_tiktoken(gpt2_bpe, "gpt2")


def test_ids_equal_tiktokens_on_all_of_tiny_shakespeare(gpt2_tokenizer, authority, shakespeare):
    assert gpt2_tokenizer.encode(shakespeare) == authority.encode(shakespeare)


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT)
def test_ids_equal_tiktokens_on_any_unicode(gpt2_tokenizer, authority, text):
    ids = gpt2_tokenizer.encode(text)
    assert ids == authority.encode(text, allowed_special="all")
    assert gpt2_tokenizer.decode(ids) == text


def test_end_of_text_begins_ends_and_is_dropped_on_request(small_tokenizer):
    assert small_tokenizer.bos_token_id == small_tokenizer.eos_token_id == small_tokenizer.unk_token_id == 399
    ids = small_tokenizer.encode("a<|endoftext|>")
    assert ids[-1] == 399
    assert small_tokenizer.decode(ids, skip_special_tokens=True) == "a"


def test_an_end_of_text_that_is_no_special_token_is_refused(small_bpe):
    with pytest.raises(InputError, match="found '<end>', expected one of the special tokens"):
        to_hf_tokenizer(small_bpe.ranks, small_bpe.special_tokens, end_of_text="<end>")


# new tokens


def test_new_ids_follow_the_last_one_in_use_and_old_ids_are_unmoved(tokenizer, extended, merges):
    old, new = tokenizer.get_vocab(), extended.get_vocab()
    assert old.items() <= new.items()
    first = max(old.values()) + 1
    assert sorted(set(new.values()) - set(old.values())) == list(range(first, first + len(merges) + len(CONTROL)))
    assert [new[visible(merge.token_bytes)] for merge in merges] == [merge.token for merge in merges]
    assert extended.convert_tokens_to_ids(CONTROL) == list(range(first + len(merges), first + len(merges) + 3))


def test_an_id_follows_the_last_one_where_the_vocabulary_has_holes(small_bpe):
    holed = to_hf_tokenizer(small_bpe.ranks, {"<|endoftext|>": 500})
    assert len(holed) == 400
    assert next_token_id(holed) == 501
    assert add_control_tokens(holed, ["<|user|>"]).get_added_vocab() == {"<|endoftext|>": 500, "<|user|>": 501}


def test_saved_and_reloaded_ids_are_equal_and_special_ids_unmoved(extended, prose, tmp_path):
    once = _reloaded(extended, tmp_path / "once")
    twice = _reloaded(once, tmp_path / "twice")
    texts = [prose, WORLD, "<|user|>hello<|end|> <|assistant|>\n<|endoftext|>", " <|user|> x"]
    for reloaded in (once, twice):
        assert type(reloaded) is type(extended)
        assert reloaded(texts)["input_ids"] == extended(texts)["input_ids"]
        assert reloaded.get_vocab() == extended.get_vocab()
        assert reloaded.get_added_vocab() == extended.get_added_vocab()
        assert reloaded.all_special_ids == extended.all_special_ids
    assert set(CONTROL) <= set(extended.all_special_tokens)


def test_control_tokens_before_and_after_merges_keep_their_ids(small_tokenizer, prose):
    chat = add_control_tokens(small_tokenizer, CONTROL)
    both = add_control_tokens(append_merges(chat, _learn(chat, [prose])), ["<|tool|>"])
    expected = {"<|endoftext|>": 399, "<|user|>": 400, "<|assistant|>": 401, "<|end|>": 402, "<|tool|>": 463}
    assert both.get_added_vocab() == expected


@pytest.fixture(scope="module")
def chat(tokenizer):
    return add_control_tokens(tokenizer, CONTROL)


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_taken_apart_the_new_tokens_are_the_old_ids_of_any_text(chat, extended, merges, text):
    # So text that no new merge touches has its old ids.
    parts = {merge.token: (merge.left, merge.right) for merge in merges}

    def taken_apart(id_):
        return [part for half in parts[id_] for part in taken_apart(half)] if id_ in parts else [id_]

    renumbered = dict(zip(extended.convert_tokens_to_ids(CONTROL), chat.convert_tokens_to_ids(CONTROL), strict=True))
    ids = [part for id_ in extended.encode(text) for part in taken_apart(id_)]
    assert [renumbered.get(id_, id_) for id_ in ids] == chat.encode(text)


def test_text_comes_back_from_ids_with_control_tokens_of_any_script(small_tokenizer):
    tokens = ["<|été|>", "<|two words|>", "<|東京|>"]
    extended = add_control_tokens(small_tokenizer, tokens)
    text = "a<|été|>b <|two words|> c<|東京|>"
    ids = extended.encode(text)
    assert set(extended.convert_tokens_to_ids(tokens)) <= set(ids)
    assert b"".join(token_bytes(extended)[id_] for id_ in ids).decode() == text


def test_settings_of_the_tokenizer_come_along_and_the_given_one_is_unchanged(small_bpe, prose, tmp_path):
    tokenizer = _ours(small_bpe)
    tokenizer.chat_template, tokenizer.pad_token = "{{ messages }}", "<|endoftext|>"
    tokenizer.padding_side, tokenizer.model_max_length = "left", 512
    tokenizer.name_or_path = "somebody/model"
    before = tokenizer.backend_tokenizer.to_str()
    extended = add_control_tokens(append_merges(tokenizer, _learn(tokenizer, [prose])), CONTROL)
    for name in ("chat_template", "pad_token", "padding_side", "truncation_side", "model_max_length", "name_or_path"):
        assert getattr(extended, name) == getattr(tokenizer, name), name
    assert tokenizer.backend_tokenizer.to_str() == before
    reloaded = _reloaded(extended, tmp_path)
    assert (reloaded.chat_template, reloaded.pad_token, reloaded.model_max_length) == (
        "{{ messages }}",
        "<|endoftext|>",
        512,
    )


@settings(max_examples=30, deadline=None)
@given(text=ANY_TEXT)
def test_the_bytes_of_the_ids_are_the_bytes_of_the_text(small_tokenizer, text):
    bytes_of_id = token_bytes(small_tokenizer)
    assert b"".join([bytes_of_id[id_] for id_ in small_tokenizer.encode(text)]) == text.encode()


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_tokenizers_tiktoken_and_the_twin_give_equal_ids_after_an_extension(extended_ours, text):
    tokenizer, twin, encoding = extended_ours
    ids = tokenizer.encode(text)
    assert twin.encode(text, allowed_special="all") == ids
    assert encoding.encode(text, allowed_special="all") == ids


@pytest.fixture(scope="module")
def extended_ours(small_tokenizer, prose):
    tokenizer = append_merges(small_tokenizer, _learn(small_tokenizer, [prose, WORLD * 9], new_tokens=300))
    tokenizer = add_control_tokens(tokenizer, CONTROL)
    twin = BytePairEncoding(ranks_of(tokenizer), special_tokens=tokenizer.get_added_vocab())
    return tokenizer, twin, to_tiktoken(twin, "extended")


def test_ranks_that_became_a_tokenizer_come_back(gpt2_ranks, gpt2_tokenizer):
    assert ranks_of(gpt2_tokenizer) == gpt2_ranks


def test_ranks_hold_a_token_that_only_a_look_up_of_whole_pieces_finds(small_bpe):
    vocabulary, merges = _parts(small_bpe)
    for ignore_merges in (True, False):
        backend = Tokenizer(models.BPE(vocab=vocabulary | {"zyxw": 399}, merges=merges, ignore_merges=ignore_merges))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
        twin = BytePairEncoding(ranks_of(tokenizer))
        assert twin.encode("zyxw zyxw") == tokenizer.encode("zyxw zyxw")
        assert (twin.encode("zyxw") == [399]) == ignore_merges


def test_merges_out_of_the_order_of_their_ids_have_no_ranks(small_bpe):
    vocabulary, merges = _parts(small_bpe)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[*merges[1:], merges[0]]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(InputError, match="not in the order of their ids"):
        ranks_of(PreTrainedTokenizerFast(tokenizer_object=backend))


def test_the_merges_of_the_new_ids_come_back_from_the_tokenizer(tokenizer, extended, merges):
    first = next_token_id(tokenizer)
    assert merges_from(extended, first) == [replace(merge, count=0) for merge in merges]
    assert merges_from(extended, next_token_id(extended)) == []


def test_a_token_counts_the_characters_that_begin_in_it_and_at_least_one(small_bpe):
    tokenizer = _ours(small_bpe)
    counts = character_counts(tokenizer)
    assert counts.keys() == token_bytes(tokenizer).keys()
    assert counts[small_bpe.ranks[b" "]] == 1
    assert counts[399] == len("<|endoftext|>")
    for part, characters in (("é".encode()[:1], 1), ("é".encode()[1:], 1)):
        assert counts[small_bpe.ranks[part]] == characters
    tokenizer = append_merges(tokenizer, _learn(tokenizer, ["東京 Größe"] * 9, new_tokens=12))
    counts = character_counts(tokenizer)
    for id_, token in token_bytes(tokenizer).items():
        whole = token.decode(errors="ignore")
        if whole.encode() == token:
            assert counts[id_] == len(whole)


# what a user can get wrong


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        (["<|user|>", "<|user|>"], "'<|user|>', which is id 400 already"),
        (["<|endoftext|>"], "'<|endoftext|>', which is id 399 already"),
        (["a"], "'a', which is id "),
        ([""], "an empty token"),
        (["<|endoftext|>2"], "overlaps the added token '<|endoftext|>'"),
        (["text"], "overlaps the added token '<|endoftext|>'"),
        (["<|\n|>"], "does not print"),
        (["<|\ud800|>"], "does not print"),
    ],
)
def test_a_control_token_that_would_be_ambiguous_is_refused(small_tokenizer, tokens, found):
    with pytest.raises(InputError) as error:
        add_control_tokens(small_tokenizer, tokens)
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_merges_for_other_ids_are_refused(small_tokenizer, prose):
    with pytest.raises(InputError, match=r"expected id 400 .* first_id=next_token_id"):
        append_merges(small_tokenizer, _learn(small_tokenizer, [prose], first_id=401))
    merges = _learn(small_tokenizer, [prose])
    with pytest.raises(InputError, match="expected id 460"):
        append_merges(append_merges(small_tokenizer, merges), merges)


def test_a_merge_whose_part_was_dropped_is_refused(small_tokenizer, prose):
    merges = _learn(small_tokenizer, [prose])
    used = {part for merge in merges for part in (merge.left, merge.right)}
    dropped = max(index for index, merge in enumerate(merges) if merge.token in used)
    kept = merges[:dropped] + merges[dropped + 1 :]
    renumbered = [replace(merge, token=FIRST_FREE_ID + index) for index, merge in enumerate(kept)]
    with pytest.raises(InputError, match="the bytes of its two parts"):
        append_merges(small_tokenizer, renumbered)


def _with_model(model, pre_tokenizer=None):
    backend = Tokenizer(model)
    if pre_tokenizer:
        backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize(
    ("other", "family"),
    [
        (_with_model(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0)), "SentencePiece Unigram"),
        (_with_model(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")), "WordPiece"),
        (_with_model(models.WordLevel({"<unk>": 0}, unk_token="<unk>")), "whole words"),
        (_with_model(models.BPE({"a": 0}, [], byte_fallback=True)), "SentencePiece BPE"),
        (_with_model(models.BPE({"a": 0}, [])), "BPE over characters"),
        (_with_model(models.BPE({"a</w>": 0}, [], end_of_word_suffix="</w>")), "ends of words"),
        (
            BertTokenizer(vocab={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4, "a": 5}),
            "WordPiece (as in",
        ),
        (T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0)]), "SentencePiece Unigram"),
        (LlamaTokenizer(vocab={"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4}, merges=[]), "SentencePiece BPE"),
    ],
)
@pytest.mark.parametrize("use", [token_bytes, ranks_of, lambda tokenizer: count_pieces(["a"], tokenizer)])
def test_a_tokenizer_of_another_family_is_refused_by_its_name(other, family, use):
    with pytest.raises(InputError) as error:
        use(other)
    assert family in str(error.value)
    assert "expected byte-level BPE (as in GPT-2" in str(error.value)
