"""Whatever a text spells, it becomes no control token; and else it gets the ids that the tokenizer itself gives."""

import random

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from configs import InputError
from tests.real_tokenizers import REAL_FAMILIES, loaded_tokenizer
from tests.tokenizer_ext.families import EACH_FAMILY, family_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens
from tokenizer_ext.huggingface.plain_text import control_tokens_of, merging_encoder, plain_text_encoder

PIECES = [
    *(
        "Hello",
        " world",
        "the",
        " class",
        "don't",
        "I'LL",
        "2048",
        "٣",
        "½",
        "Größe ",
        "東京都は",
        "नमस्ते",
        "🙂",
        "👩\u200d🚀",
    ),
    *(
        " ",
        "  ",
        "       ",
        "\n",
        "\n\n",
        "\n\n\n\n",
        "\r\n",
        "\t",
        "\t\t\t",
        " \n ",
        "\u00a0",
        "\u2028",
        "\u3000",
        "▁",
        "▁▁▁",
    ),
    *("e\u0301", "\u1112\u1161\u11ab", "\ufeff", "\x00", "\x04", "\x1d", "\U000e0041", "\u0378"),
    *(
        "<table>",
        "</table>",
        "<td>",
        "<b>bold</b>",
        "<p class='x'>",
        "<s>",
        "</",
        "|>",
        "<|",
        "[",
        "]",
        "<",
        ">",
        "<0x0A>",
    ),
    *("def f(x):\n    return x\n", 'print("\\n")', "#!/bin/sh\n\techo $1", "https://example.org/a?b=c", "a" * 40),
]
OURS = ["<|user|>", "<|assistant|>", "<|end|>"]


def _sentencepiece_unigram(prose):
    """As T5: control tokens stand among the pieces with the best score of all."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<extra_id_0>"]
    backend.train_from_iterator(
        [prose, *PIECES], trainers.UnigramTrainer(vocab_size=500, special_tokens=special, unk_token="<unk>")
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def _word_pieces(prose):
    """As BERT, but cut at spaces only, so that a control token could be a word."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator([prose], trainers.WordPieceTrainer(vocab_size=500, special_tokens=special))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", **names)


def _words(prose):
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<unk>", "<s>", "</s>"]
    backend.train_from_iterator([prose], trainers.WordLevelTrainer(vocab_size=500, special_tokens=special))
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


SMALL = {"unigram": _sentencepiece_unigram, "word pieces": _word_pieces, "words": _words}


REAL = [
    pytest.param(family, marks=[pytest.mark.long] * (family in ("gemma3", "llama3_1", "qwen3")))
    for family in REAL_FAMILIES
]


@pytest.fixture(scope="module", params=[*REAL, *EACH_FAMILY, *SMALL])
def tokenizer(request, prose):
    if request.param in REAL_FAMILIES:
        return loaded_tokenizer(request.param)
    return SMALL[request.param](prose) if request.param in SMALL else family_tokenizer(request.param, [prose])


@pytest.fixture(scope="module")
def extended(tokenizer):
    return add_control_tokens(tokenizer, OURS)


@pytest.fixture(scope="module", params=["as it is", "with control tokens of ours"])
def any_tokenizer(request, tokenizer, extended):
    return tokenizer if request.param == "as it is" else extended


def _texts(tokenizer, count=3_000):
    """Texts of pieces of every kind, control tokens among them, whole and in halves."""
    draw = random.Random(0)
    control = draw.sample(sorted(control_tokens_of(tokenizer)), min(40, len(control_tokens_of(tokenizer))))
    halves = [part for token in control for part in (token[: len(token) // 2], token[len(token) // 2 :])]
    kinds = [PIECES, PIECES, control, halves]
    return [
        *control_tokens_of(tokenizer),
        *(
            "".join(draw.choice(draw.choice(kinds) or PIECES) for _ in range(draw.randrange(1, 12)))
            for _ in range(count)
        ),
    ]


def _without(control, text):
    while any(token in text for token in control):
        for token in control:
            text = text.replace(token, "")
    return text


def _allowed(tokenizer):
    """What a vocabulary without bytes answers to characters that it lacks."""
    vocabulary = tokenizer.backend_tokenizer.model
    name = type(vocabulary).__name__
    return set() if name == "BPE" else {tokenizer.unk_token_id}


def test_no_text_becomes_a_control_token(any_tokenizer):
    control = control_tokens_of(any_tokenizer)
    assert control
    encoder = plain_text_encoder(any_tokenizer)
    forbidden = set(control.values()) - _allowed(any_tokenizer)
    texts = _texts(any_tokenizer)
    made = {
        text: forbidden & set(encoding.ids)
        for text, encoding in zip(texts, encoder.encode_batch(texts), strict=True)
        if forbidden & set(encoding.ids)
    }
    assert made == {}
    assert encoder.encode("").ids == []


def test_text_without_control_tokens_gets_the_ids_of_the_tokenizer(any_tokenizer):
    control = sorted(control_tokens_of(any_tokenizer))
    texts = [_without(control, text) for text in _texts(any_tokenizer, 1_500)[-1_500:]]
    expected = any_tokenizer(texts, add_special_tokens=False)["input_ids"]
    found = [encoding.ids for encoding in plain_text_encoder(any_tokenizer).encode_batch(texts)]
    assert {text: (ids, right) for text, ids, right in zip(texts, found, expected, strict=True) if ids != right} == {}


def test_control_tokens_come_after_the_last_id_in_use_and_no_id_moves_when_plain_transformers_opens_them(
    tokenizer, extended, tmp_path
):
    first = max(tokenizer.get_vocab().values()) + 1
    extended.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*(_without(OURS, text) for text in _texts(tokenizer, 200)[-200:]), "<|user|>hi <|end|>\n<|assistant|> x"]
    for opened in (extended, reloaded):
        assert opened.convert_tokens_to_ids(OURS) == [first, first + 1, first + 2]
        assert set(OURS) <= set(opened.all_special_tokens)
        assert tokenizer.get_vocab().items() <= opened.get_vocab().items()
        assert opened(texts[:-1])["input_ids"] == tokenizer(texts[:-1])["input_ids"]
        assert [id_ for id_ in opened(texts[-1])["input_ids"] if id_ >= first] == [first, first + 2, first + 1]


def test_offsets_are_those_of_the_tokenizer(tokenizer):
    control = sorted(control_tokens_of(tokenizer))
    texts = [_without(control, text) for text in _texts(tokenizer, 300)[-300:]]
    plain = plain_text_encoder(tokenizer).encode_batch(texts)
    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bare.post_processor = None  # a ByteLevel one leaves out the spaces that a token begins with
    for text, found, expected in zip(texts, plain, bare.encode_batch(texts), strict=True):
        assert found.offsets == expected.offsets, text
        starts = [start for start, _ in found.offsets]
        assert starts == sorted(starts) and all(0 <= start <= end <= len(text) for start, end in found.offsets)


def test_it_is_built_once_and_again_after_tokens_were_added(prose):
    tokenizer = family_tokenizer("qwen 3", [prose])
    encoder = plain_text_encoder(tokenizer)
    tokenizer("a", padding="max_length", truncation=True, max_length=4)
    assert plain_text_encoder(tokenizer) is encoder
    assert len(encoder.encode("hello <|hi|> the class").ids) > 4
    tokenizer.add_tokens([AddedToken("  \n", special=False), AddedToken("<|hi|>", special=True)])
    assert "<|hi|>" in control_tokens_of(tokenizer) and "  \n" not in control_tokens_of(tokenizer)
    (run,) = plain_text_encoder(tokenizer).encode("  \n").ids
    assert run == tokenizer.convert_tokens_to_ids("  \n")
    assert plain_text_encoder(tokenizer).encode("<|hi|>").ids == encoder.encode("<|hi|>").ids


def test_added_words_that_are_not_special_are_plain_text_too(prose):
    tokenizer = family_tokenizer("gpt2", [prose])
    before = plain_text_encoder(tokenizer).encode("say hello to the class").ids
    tokenizer.add_tokens([AddedToken("hello", special=False), AddedToken("the class", special=False)])
    assert plain_text_encoder(tokenizer).encode("say hello to the class").ids == before
    assert len(tokenizer.encode("say hello to the class")) < len(before)


def test_a_control_token_that_is_a_whole_piece_is_plain_text_too(prose):
    # A model that looks up whole pieces finds it in its vocabulary, though no merge leads there.
    llama = family_tokenizer("llama 3", [prose])
    tokenizer = add_control_tokens(llama, ["zyx"])
    assert tokenizer.encode("zyx", add_special_tokens=False) == [max(tokenizer.get_vocab().values())]
    assert plain_text_encoder(tokenizer).encode("zyx").ids == plain_text_encoder(llama).encode("zyx").ids


def test_a_control_token_that_merges_make_is_spelled_another_way_where_nothing_is_made_of_it():
    merges = [("a", "b"), ("ab", "c"), ("ab", "d")]
    vocabulary = {token: id_ for id_, token in enumerate([*"abcd", "ab", "abc", "abd"])}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=merges)))
    tokenizer.add_tokens([AddedToken("abc", special=True), AddedToken("ab", special=True)])
    assert plain_text_encoder(tokenizer).encode("abc").ids == [4, 2]
    assert plain_text_encoder(tokenizer).encode("abd").ids == [6]  # "ab" must stay a piece of words


def test_an_end_of_text_that_stands_for_unknown_characters_is_not_made_of_them():
    vocabulary = {"<end>": 0, "a": 1}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<end>")), eos_token="<end>"
    )
    assert tokenizer.encode("aé") == [1, 0]
    assert plain_text_encoder(tokenizer).encode("aé").ids == [1]


def test_the_encoder_of_the_tokenizer_stays_when_merges_alone_shall_decide(prose):
    tokenizer = family_tokenizer("llama 3", [prose])
    assert not merging_encoder(tokenizer).model.ignore_merges
    assert tokenizer.backend_tokenizer.model.ignore_merges and plain_text_encoder(tokenizer).model.ignore_merges


@pytest.mark.long
def test_gemmas_runs_of_line_breaks_and_tags_are_text_and_its_reserved_tokens_are_control():
    tokenizer = loaded_tokenizer("gemma3")
    assert plain_text_encoder(tokenizer).encode("a\n\n<table>\t\t").ids == [236746, 108, 168, 255969]
    control = control_tokens_of(tokenizer)
    assert {"<mask>", "[multimodal]", "<unused12>", "<bos>", "<end_of_turn>"} <= control.keys()
    assert len(control) == 6242 + 9 + 2 + 2  # reserved, special, <mask> and [multimodal], and <bbox> with its end


def test_what_qwen_adds_for_thoughts_and_tools_is_control():
    tokenizer = loaded_tokenizer("qwen3")
    control = control_tokens_of(tokenizer)
    assert len(control) == 26 and control["<think>"] == 151667 and control["<tool_call>"] == 151657


def test_a_tokenizer_without_a_fast_backend_is_refused():
    for use in (control_tokens_of, plain_text_encoder):
        with pytest.raises(InputError, match="found object without a fast backend, expected"):
            use(object())
