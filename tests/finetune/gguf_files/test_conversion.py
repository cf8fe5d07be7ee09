"""A GGUF file says what its model says: read by transformers, and by llama.cpp where that is installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from configs import InputError
from finetune.gguf_files.conversion import convert
from finetune.gguf_files.llama_cpp_proof import is_installed
from finetune.gguf_files.vocabulary import pre_tokenizer_name
from finetune.to_gguf import GgufSettings, choose_target
from tests.finetune.tiny_models import save_tiny_base
from tests.real_tokenizers import loaded_tokenizer
from tokenizer_ext.huggingface.hf_model import load_tokenizer

TEXT = "What colour has the boat number 3? It is red, or  blue.\n"
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.2),
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama 3": LlamaConfig(**SIZES, rope_parameters=LLAMA3, attention_bias=True),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=128, tie_word_embeddings=True),
}


def save(folder: Path, config: PreTrainedConfig) -> Path:
    """A tiny model of the family, with three rows more than ids."""
    save_tiny_base(folder)
    tokenizer = load_tokenizer(str(folder))
    torch.manual_seed(0)
    config.vocab_size = len(tokenizer) + 3
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder


def logits(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([tokenizer.encode(TEXT)])).logits.float()


STORED = [
    *((family, "F32", 1e-4) for family in ("gpt2", "llama", "qwen2", "qwen3")),
    ("llama", "F16", 0.02),
    ("qwen2", "Q8_0", 0.15),
]


@pytest.mark.parametrize("family, stored_as, tolerance", STORED)
def test_transformers_reads_the_same_model_and_the_same_ids(tmp_path, family, stored_as, tolerance):
    base = save(tmp_path / "base", CONFIGS[family])
    found = convert(str(base), tmp_path / "out", stored_as=stored_as)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    place: dict[str, Any] = {"pretrained_model_name_or_path": tmp_path / "out", "gguf_file": found.file}
    theirs = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()
    before, after = logits(model, tokenizer), logits(theirs, tokenizer)
    assert (before - after).abs().max() <= tolerance * before.abs().max()
    if family == "gpt2":  # of the others transformers makes tokenizers of their own kind
        assert AutoTokenizer.from_pretrained(**place).encode(TEXT) == tokenizer.encode(TEXT)
    record = json.loads((tmp_path / "out" / "gguf.json").read_text())
    assert record["pre_tokenizer"] == "gpt-2" and record["read_again"]


@pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("family", CONFIGS)
def test_llama_cpp_reads_the_same_ids_and_replies_the_same(tmp_path, family):
    base = save(tmp_path / "base", CONFIGS[family])
    (tmp_path / "prompts.txt").write_text("".join(f"What colour has the boat number {n}?\n" for n in range(10)))
    asked: dict[str, Any] = {"prompts": str(tmp_path / "prompts.txt"), "reply_tokens": 12}
    proof = convert(str(base), tmp_path / "out", stored_as="F32", **asked).llama_cpp
    assert proof is not None
    assert proof.same_ids >= 0.999 * proof.texts and (proof.same_replies, proof.prompts) == (10, 10), proof.describe()


def test_what_llama_cpp_has_no_name_for_is_refused_and_nothing_is_written(tmp_path):
    base = save(tmp_path / "base", CONFIGS["gpt2"])
    tokenizer = load_tokenizer(str(base))
    split = pre_tokenizers.Split(Regex(r"\w+|\W"), "isolated")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.save_pretrained(base)
    with pytest.raises(InputError, match=r"found a pre-tokenizer \(Split, ByteLevel\) that llama.cpp has no name for"):
        convert(str(base), tmp_path / "out", stored_as="F16")
    assert not (tmp_path / "out").exists()


def test_numbers_above_half_precision_a_window_and_a_model_of_no_run_are_refused(tmp_path):
    base = save(tmp_path / "base", CONFIGS["qwen2"])
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = 1e5
    model.save_pretrained(base)
    with pytest.raises(InputError, match="more than half precision: take stored_as F32"):
        convert(str(base), tmp_path / "out", stored_as="F16")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"use_sliding_window": True, "sliding_window": 8}))
    with pytest.raises(InputError, match="attends through a sliding window"):
        convert(str(base), tmp_path / "out", stored_as="F32")
    with pytest.raises(InputError, match="belongs to no run"):
        choose_target(GgufSettings(model=str(base)))
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_real_tokenizers_have_the_names_that_llama_cpp_gives_them():
    names = {"qwen3": "qwen2", "llama3_1": "llama-bpe"}
    for family, name in names.items():
        assert pre_tokenizer_name(loaded_tokenizer(family)) == name
    with pytest.raises(InputError, match="SentencePiece"):
        pre_tokenizer_name(loaded_tokenizer("llama2"))
