"""Weights of Hugging Face's Llama in `Llama`, by a table of names: SmolLM2, TinyLlama, Llama 2 and their like.

Source of the names: transformers, `models/llama/modeling_llama.py`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import LlamaConfig as HuggingFaceLlamaConfig
from transformers import LlamaForCausalLM, PreTrainedConfig

from configs import InputError
from configs.errors import on_one_line
from scratch_models.rungs.llama import Llama, LlamaConfig
from tokenizer_ext.foreign.checked_folder import check_model_folder
from tokenizer_ext.huggingface.gguf_base import plain_folder

MODEL_NAMES = {
    "token_embedding_table.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
BLOCK_NAMES = {  # after `blocks.{i}.` and `model.layers.{i}.`
    "norm_1.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.projection.weight": "self_attn.o_proj.weight",
    "norm_2.weight": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.gate_proj.weight",
    "mlp.expand.weight": "mlp.up_proj.weight",
    "mlp.contract.weight": "mlp.down_proj.weight",
}


def load_llama(name_or_folder: str | Path) -> Llama:
    """The Llama of a Hugging Face folder or Hub name, a GGUF file, or `smollm2`, in single precision for evaluation.

    Raises:
        InputError: it is no Llama, computes something that `Llama` does not, or lacks a weight.
    """
    name = plain_folder(str(name_or_folder))
    source = _read_model(name)
    # transformers unties where a checkpoint holds two different matrices, whatever its configuration says.
    is_tied = source.lm_head.weight is source.model.embed_tokens.weight
    shape = dataclasses.replace(shape_of(source.config, name), tied=is_tied)
    weights = source.state_dict()
    with torch.device("meta"):
        model = Llama(shape)
    # Copies, since transformers maps the file into memory: a model must not change when its file is written again.
    state: dict[str, Tensor] = {ours: weights[theirs].clone() for ours, theirs in weight_names(shape).items()}
    if shape.tied:
        state["lm_head.weight"] = state["token_embedding_table.weight"]
    model.load_state_dict(state, assign=True)
    if shape.tied:
        model.lm_head.weight = model.token_embedding_table.weight
    return model.eval()


def weight_names(config: LlamaConfig) -> dict[str, str]:
    """Every weight of a model of this shape: its name here, its name in transformers."""
    blocks = {
        f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}"
        for layer in range(config.layers)
        for ours, theirs in BLOCK_NAMES.items()
    }
    return {**MODEL_NAMES, **blocks}


def shape_of(config: HuggingFaceLlamaConfig, name: str) -> LlamaConfig:
    """The shape of a model that `Llama` computes as transformers does.

    Raises:
        InputError: a field asks for something else.
    """
    rotary = config.rope_parameters
    computed = {
        "hidden_act": (config.hidden_act, "silu"),
        "attention_bias": (config.attention_bias, False),
        "mlp_bias": (config.mlp_bias, False),
        "rope_type": (rotary["rope_type"], "default"),
        "head_dim": (config.head_dim, config.hidden_size // config.num_attention_heads),
    }
    for field, (found, expected) in computed.items():
        if found != expected:
            raise InputError(f"{name}: {field} is {found!r}, expected {expected!r}: Llama computes no other")
    return LlamaConfig(
        vocabulary_size=config.vocab_size,
        block_size=config.max_position_embeddings,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        width=config.hidden_size,
        hidden_width=config.intermediate_size,
        rotary_base=float(rotary["rope_theta"]),
        norm_epsilon=config.rms_norm_eps,
        tied=config.tie_word_embeddings,
    )


def _read_model(name: str) -> LlamaForCausalLM:
    try:
        fields: dict[str, Any] = PreTrainedConfig.get_config_dict(name)[0]
        if fields.get("model_type") != "llama":
            raise InputError(f"{name}: its model_type is {fields.get('model_type')!r}, expected a Llama ('llama')")
        config = HuggingFaceLlamaConfig.from_dict(fields)
        shape_of(config, name)  # before any weight is read
        if Path(name).is_dir():
            check_model_folder(Path(name))
        source, report = LlamaForCausalLM.from_pretrained(
            name, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: cannot be read ({on_one_line(error)}), expected the folder of a Llama") from None
    # transformers only warns of these, and fills them with random numbers.
    if report["missing_keys"]:
        raise InputError(
            f"{name}: its weights lack {sorted(report['missing_keys'])[0]}, expected every weight of a Llama"
        )
    return source
