"""What a GGUF file calls the parts and numbers of a model, family by family.

The names are those of the `gguf` package; what llama.cpp expects of each stands in its `src/llama-model.cpp`
(https://github.com/ggml-org/llama.cpp/blob/master/src/llama-model.cpp).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gguf import MODEL_ARCH, GGUFWriter, RopeScalingType, get_tensor_name_map
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from configs import InputError

Changes = Callable[[str, Tensor, PreTrainedConfig], Tensor]


@dataclass(frozen=True)
class Family:
    """A family of models that llama.cpp computes."""

    architecture: MODEL_ARCH
    write_numbers: Callable[[GGUFWriter, PreTrainedConfig], None]
    change: Changes
    """A weight as llama.cpp wants it."""


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model.

    Raises:
        InputError: it is of none that can be written, or has a part that the family's file has no place for.

    """
    kind = model.config.model_type
    family = FAMILIES.get(kind)
    if family is None:
        raise InputError(f"model: found the kind {kind}, expected one of {', '.join(FAMILIES)}: no other is written")
    if kind != "gpt2" and rope_of(model.config)["rope_type"] not in ("default", "linear", "llama3"):
        found = rope_of(model.config)["rope_type"]
        raise InputError(f"model: found rotary positions of the kind {found}, expected default, linear or llama3")
    if getattr(model.config, "use_sliding_window", False):
        raise InputError("model: attends through a sliding window, expected full attention: that is not written")
    return family


def named_tensors(model: PreTrainedModel, family: Family) -> Iterator[tuple[str, Tensor]]:
    """Every weight under its name in the file, as llama.cpp wants it; a head that is the embedding is left out.

    Raises:
        InputError: a weight has no place in such a file.

    """
    names = get_tensor_name_map(family.architecture, model.config.num_hidden_layers)
    for name, weight in model.named_parameters():  # a head that is the embedding is named once, as that
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise InputError(f"model: {name} has no place in a file of the family {family.architecture.name.lower()}")
        yield found, family.change(name, weight.detach(), model.config)
    if model.config.model_type != "gpt2" and rope_of(model.config)["rope_type"] == "llama3":
        yield "rope_freqs.weight", llama3_factors(model.config)


def rope_of(config: PreTrainedConfig) -> Mapping[str, Any]:
    """How the config turns places into angles: `rope_type`, `rope_theta`, and what the type needs."""
    found = dict(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {})
    return {"rope_type": "default", "rope_theta": getattr(config, "rope_theta", 10_000.0)} | found


def llama3_factors(config: PreTrainedConfig) -> Tensor:
    """By how much each frequency is divided, (head width / 2,): transformers' own, against those without scaling."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    width = _head_width(config)
    plain = rope_of(config)["rope_theta"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    return (plain / scaled.double()).float()


def _write_rotary(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope_of(config)["rope_theta"])
    writer.add_rope_dimension_count(_head_width(config))
    writer.add_key_length(_head_width(config))
    writer.add_value_length(_head_width(config))
    writer.add_vocab_size(config.vocab_size)
    if rope_of(config)["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope_of(config)["factor"])


def _write_gpt2(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)


def _head_width(config: PreTrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _as_it_is(_name: str, weight: Tensor, _config: PreTrainedConfig) -> Tensor:
    return weight


def _pairs_side_by_side(name: str, weight: Tensor, config: PreTrainedConfig) -> Tensor:
    """Queries and keys of a Llama: llama.cpp turns neighbouring numbers of a head, transformers its two halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    number = heads.get(name.split(".")[-2])
    if number is None:
        return weight
    halves = weight.view(number, 2, weight.shape[0] // number // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def _turned(name: str, weight: Tensor, _config: PreTrainedConfig) -> Tensor:
    """Products of a GPT-2, whose Conv1D stores (in, out)."""
    products = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return weight.T if name.endswith(products) else weight


FAMILIES = {
    "gpt2": Family(MODEL_ARCH.GPT2, _write_gpt2, _turned),
    "llama": Family(MODEL_ARCH.LLAMA, _write_rotary, _pairs_side_by_side),
    "qwen2": Family(MODEL_ARCH.QWEN2, _write_rotary, _as_it_is),
    "qwen3": Family(MODEL_ARCH.QWEN3, _write_rotary, _as_it_is),
}
