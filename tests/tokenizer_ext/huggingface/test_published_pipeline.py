"""A folder is read, and written, as its tokenizer.json says, whatever class its other files name for it.

transformers 5 builds the pipeline of many classes itself and takes only vocabulary and merges from the file, so that
digits are cut otherwise and spaces are lost (huggingface/transformers issues 45488, 45812, 45920 and 48206).
"""

import json

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from tests.real_tokenizers import REAL_FAMILIES, real_tokenizer
from tests.tokenizer_ext.families import write_family
from tests.tokenizer_ext.tiny_models import tiny_llama
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, next_token_id
from tokenizer_ext.trimming.trimmed_model import trim_vocabulary

TEXTS = [
    *("2023", "650841823", "we need to add 9 and 6", "hello world"),
    *(" two  spaces\n\n\tand 1234 lines", "Café déjà vu — 123 😊"),
]
CLASSES = ["LlamaTokenizerFast", "LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "PreTrainedTokenizerFast"]
MODELS = ["llama", "olmo2", "deepseek_v3", "granite"]


@pytest.fixture(scope="module")
def published(prose, tmp_path_factory):
    """Digits in threes, then bytes, as in OLMo 2, DeepSeek and Granite 4."""
    return write_family("olmo 2", tmp_path_factory.mktemp("published"), [prose, " ".join(TEXTS) * 9])


NAMED = [*((name, "llama") for name in CLASSES), *(("LlamaTokenizerFast", kind) for kind in MODELS[1:])]
QUICK = {("LlamaTokenizerFast", "llama"), ("GPT2Tokenizer", "llama"), ("LlamaTokenizerFast", "deepseek_v3")}


@pytest.fixture(
    params=[pytest.param(one, id="-".join(one), marks=[] if one in QUICK else pytest.mark.long) for one in NAMED]
)
def folder(request, published, tmp_path):
    """The same tokenizer in a folder that names another class, or that class through the type of its model."""
    named, kind = request.param
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((published / "tokenizer.json").read_bytes())
    settings = json.loads((published / "tokenizer_config.json").read_text()) | {"tokenizer_class": named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


def _as_file(folder, texts=TEXTS):
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [backend.encode(text).ids for text in texts]
    return ids, [backend.decode(some, skip_special_tokens=False) for some in ids]


def _as_opened(tokenizer, texts=TEXTS):
    ids = [tokenizer.encode(text) for text in texts]
    return ids, [tokenizer.decode(some, clean_up_tokenization_spaces=False) for some in ids]


def test_ids_and_text_are_those_of_the_file(folder):
    assert _as_opened(load_tokenizer(str(folder))) == _as_file(folder)


def test_every_folder_that_is_written_from_it_has_them_in_plain_transformers(folder, tmp_path):
    tokenizer = load_tokenizer(str(folder))
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    tiny_llama(next_token_id(tokenizer)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    extended = extend_vocabulary(folder, words=[" wyvern"], control_tokens=["<|user|>"])
    extended.save(tmp_path / "extended")
    save_delta(extended.model, extended.tokenizer, extended.first_new_id, tmp_path / "delta")
    apply_delta(folder, tmp_path / "delta").save(tmp_path / "applied")
    add_control_tokens(tokenizer, ["<|user|>"]).save_pretrained(tmp_path / "with control tokens")
    trim_vocabulary(load_model(str(folder)), tokenizer, TEXTS).save(tmp_path / "trimmed")
    for name in ("extended", "applied", "with control tokens", "trimmed"):
        (tmp_path / name / "config.json").write_text(json.dumps(config | {"model_type": kind}))
        opened = AutoTokenizer.from_pretrained(tmp_path / name)
        assert _as_opened(opened) == _as_file(tmp_path / name), name
        if name != "trimmed":
            assert _as_opened(opened)[0] == _as_file(folder)[0], name


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=[pytest.mark.long] * (one in ("gemma3", "llama3_1"))) for one in REAL_FAMILIES]
)
def test_real_tokenizers_are_read_as_their_files_say(family, tmp_path):
    folder = real_tokenizer(family, tmp_path)
    texts = [*TEXTS, "<|im_start|>user\n<start_of_turn>model</s> [INST] <|eot_id|>"]
    assert _as_opened(load_tokenizer(str(folder)), texts) == _as_file(folder, texts)


def test_a_unigram_tokenizer_that_its_class_would_normalise_otherwise_is_read_as_its_file_says(prose, tmp_path):
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.Metaspace()]
    )
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator([prose], trainer)
    backend.save(str(tmp_path / "tokenizer.json"))
    names = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", **names}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    assert _as_opened(load_tokenizer(str(tmp_path))) == _as_file(tmp_path)
