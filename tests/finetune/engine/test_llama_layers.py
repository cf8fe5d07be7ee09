"""Fused norms and rotations: transformers' own layers of each family, with their gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from finetune.engine.fused_layers import SwappedForwards
from finetune.engine.llama_functions import rms_norm, rotate
from finetune.engine.llama_layers import swap_llama_layers
from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora

VOCABULARY = 50
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, 5),
    "mistral": (MistralForCausalLM, MistralConfig, 5),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, 5),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, 9),
    "gemma": (GemmaForCausalLM, GemmaConfig, 5),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, 9),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, 13),
    "smollm3": (SmolLM3ForCausalLM, SmolLM3Config, 5),
}
"""Model, config, and how many norms two layers and the end have."""


def make(family: str) -> PreTrainedModel:
    model_class, config_class, _ = FAMILIES[family]
    torch.manual_seed(0)
    model = model_class(config_class(**SHAPE))
    for name, parameter in model.named_parameters():
        if "norm" in name:  # starts at 1, or at 0, where nothing would show which of both
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    return model


def with_lora(model: PreTrainedModel) -> PreTrainedModel:
    attach_lora(model, Lora(rank=4, alpha=8.0, dropout=0.0))
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def full(model: PreTrainedModel) -> PreTrainedModel:
    return model.requires_grad_(True)


def compute(model: PreTrainedModel) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Last hidden states, loss and gradients of two rows of eleven tokens."""
    torch.manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (2, 11))
    hidden = model.base_model(ids, use_cache=False).last_hidden_state
    loss = F.cross_entropy(model(ids, use_cache=False).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    named = {name: one for name, one in model.named_parameters() if one.requires_grad}
    gradients = torch.autograd.grad(loss, list(named.values()))
    return hidden.detach(), loss.detach(), dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("trains", [full, with_lora])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_computes_what_transformers_does(
    family: str, trains: Callable[[PreTrainedModel], PreTrainedModel]
) -> None:
    model = trains(make(family)).train()
    hidden, loss, gradients = compute(model)
    swapped = SwappedForwards()
    swap_llama_layers(model, swapped)
    assert swapped.counts() == {"norms": FAMILIES[family][2], "rotary positions": 2}
    found_hidden, found_loss, found = compute(model)
    assert not torch.equal(found_hidden, hidden)
    assert float((found_hidden - hidden).norm() / hidden.norm()) <= 1e-5
    assert float((found_loss - loss).abs()) <= 1e-5
    for name, gradient in gradients.items():
        assert float((found[name] - gradient).norm() / gradient.norm()) <= 1e-5, name
    swapped.undo()
    assert torch.equal(compute(model)[0], hidden)


def test_a_layer_of_another_class_goes_its_own_way():
    class LlamaRMSNormOfOthers(LlamaRMSNorm):
        """Computes something else under nearly the same name."""

    model = nn.ModuleList([LlamaRMSNormOfOthers(4), nn.RMSNorm(4), nn.Linear(4, 4)])
    swapped = SwappedForwards()
    swap_llama_layers(model, swapped)
    assert swapped.counts() == {}


def test_half_precision_is_rounded_where_the_family_rounds_it():
    model = make("llama").bfloat16()
    ids = torch.arange(1, 12)[None]
    expected = model(ids).logits
    swap_llama_layers(model, SwappedForwards())
    torch.testing.assert_close(model(ids).logits, expected, rtol=0.05, atol=0.05)
    norm, values = model.model.norm, torch.randn(3, 32, dtype=torch.bfloat16)
    assert torch.equal(norm(values), LlamaRMSNorm.forward(norm, values))


def doubles(*sizes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]


def test_gradients_of_a_norm_are_those_of_differences():
    assert torch.autograd.gradcheck(lambda values, weight: rms_norm(values, weight, 1e-3), doubles((7, 40), (40,)))


def test_a_rotation_is_transformers_even_where_both_halves_turn_by_other_angles():
    query, key, cos, sin = doubles((1, 4, 5, 6), (1, 2, 5, 6), (1, 5, 6), (1, 5, 6))
    cos, sin = cos.detach(), sin.detach()
    ours, theirs = rotate(query, key, cos, sin), apply_rotary_pos_emb(query, key, cos, sin)
    upstream = [torch.randn_like(one) for one in ours]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (query, key), upstream), torch.autograd.grad(theirs, (query, key), upstream)
    )
