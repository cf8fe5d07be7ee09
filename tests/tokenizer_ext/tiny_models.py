"""Tiny random models of the architectures whose tokenizers `families` builds."""

from collections.abc import Callable

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

WIDTH = 16
PADDING_ROWS = 21
_LAYERS = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def tiny_gpt2(tokens: int, seed: int = 0) -> PreTrainedModel:
    """GPT-2: the head is the embedding."""
    torch.manual_seed(seed)
    ends = {"bos_token_id": tokens - 1, "eos_token_id": tokens - 1}
    config = GPT2Config(vocab_size=tokens, n_positions=64, n_embd=WIDTH, n_layer=1, n_head=2, **ends)
    return GPT2LMHeadModel(config).eval()


def tiny_llama(tokens: int, seed: int = 0, *, tied: bool = False) -> PreTrainedModel:
    """Llama 3: a head of its own, or tied as in its smallest models."""
    torch.manual_seed(seed)
    heads = {"num_key_value_heads": 1, "tie_word_embeddings": tied}
    return LlamaForCausalLM(LlamaConfig(vocab_size=tokens, **_LAYERS, **heads)).eval()


def tiny_tied_llama(tokens: int, seed: int = 0) -> PreTrainedModel:
    """Llama 3.2 and SmolLM: tied."""
    return tiny_llama(tokens, seed, tied=True)


def tiny_qwen2(tokens: int, seed: int = 0) -> PreTrainedModel:
    """Qwen 2: tied, with rows that no token uses."""
    torch.manual_seed(seed)
    heads = {"num_key_value_heads": 1, "tie_word_embeddings": True}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=tokens + PADDING_ROWS, **_LAYERS, **heads)).eval()


def tiny_qwen3(tokens: int, seed: int = 0) -> PreTrainedModel:
    """Qwen 3: untied as in its large models, with rows that no token uses."""
    torch.manual_seed(seed)
    heads = {"num_key_value_heads": 1, "tie_word_embeddings": False, "head_dim": WIDTH // 2}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=tokens + PADDING_ROWS, **_LAYERS, **heads)).eval()


def tiny_gpt_neox(tokens: int, seed: int = 0) -> PreTrainedModel:
    """GPT-NeoX and Pythia: untied (`embed_in`, `embed_out`)."""
    torch.manual_seed(seed)
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=tokens, **_LAYERS, tie_word_embeddings=False)).eval()


def tiny_olmo2(tokens: int, seed: int = 0) -> PreTrainedModel:
    """OLMo 2: untied."""
    torch.manual_seed(seed)
    return Olmo2ForCausalLM(Olmo2Config(vocab_size=tokens, **_LAYERS, tie_word_embeddings=False)).eval()


def tiny_phi(tokens: int, seed: int = 0) -> PreTrainedModel:
    """Phi: untied, and its head has a bias (here not of zeros)."""
    torch.manual_seed(seed)
    model = PhiForCausalLM(PhiConfig(vocab_size=tokens, **_LAYERS, tie_word_embeddings=False)).eval()
    with torch.no_grad():
        model.lm_head.bias.normal_()
    return model


TINY_MODELS: dict[str, Callable[[int], PreTrainedModel]] = {
    "gpt2": tiny_gpt2,
    "llama 3": tiny_llama,
    "qwen 2": tiny_qwen2,
    "qwen 3": tiny_qwen3,
    "gpt-neox": tiny_gpt_neox,
    "olmo 2": tiny_olmo2,
    "smollm": tiny_tied_llama,
}
"""The model that goes with a family of `families`, by the number of its tokenizer's ids."""
