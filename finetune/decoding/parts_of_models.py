"""GPT-2 and the family of Llama as Hugging Face has them, adapters included, as the parts of a block decoder.

A model that computes anything else has no parts here and decodes through its own forward: what cannot be read for
sure is not guessed, and `decoders.py` compares what is read with the model itself.
"""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers.activations import NewGELUActivation

from finetune.decoding.linear_layers import LayerReader, NotReadable, is_watched
from scratch_models.decoding.block_decoder import BlockParts, DecoderParts, Part, gated_mlp
from tokenizer_ext.held_weights.stored_layers import HeldLayer, StoredEmbedding, computes_in

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
STEADY_TURNS = ("default", "linear", "llama3", "yarn")  # the others turn by the length of the text


def read_parts(model: nn.Module, reader: LayerReader) -> DecoderParts:
    """The parts of a model; its weights are shared, or copied in another layout where the reader may.

    Raises:
        NotReadable: the model is none whose parts are known.
    """
    if isinstance(model, PeftModel):
        if model.active_peft_config.is_prompt_learning:
            raise NotReadable("prompt learning")
        model = model.get_base_model()
    _refuse_unusual(model)
    config: Any = model.config
    if config.model_type == "gpt2" and type(model).__name__ == "GPT2LMHeadModel":
        return _gpt2(model, config, reader)
    if config.model_type in LLAMA_LIKE and type(model).__name__.endswith("ForCausalLM"):
        return _llama(model, config, reader)
    raise NotReadable(config.model_type)


def _refuse_unusual(model: nn.Module) -> None:
    """Refuses a model in which something may happen that its layers do not show."""
    if "forward" in vars(model):
        raise NotReadable("a forward that was put in the place of its own")
    if any(is_watched(module) for module in model.modules()):
        raise NotReadable("hooks on its modules")
    parameters = list(model.parameters())
    if any(isinstance(parameter, DTensor) for parameter in parameters):
        raise NotReadable("weights in slices")
    held = {id(layer.weight) for layer in model.modules() if isinstance(layer, HeldLayer | StoredEmbedding)}
    computed = computes_in(model)
    types = {(one.device, computed if id(one) in held else one.dtype) for one in parameters}
    if len(types) != 1:
        raise NotReadable("weights of several devices or types")


def _gpt2(model: Any, config: Any, reader: LayerReader) -> DecoderParts:
    if config.scale_attn_by_inverse_layer_idx or config.reorder_and_upcast_attn or config.add_cross_attention:
        raise NotReadable("attention scaled by layer, or crossed")
    body = model.transformer

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        embedded: Tensor = body.wte(ids) + body.wpe(positions)
        return embedded

    def block(layer: Any) -> BlockParts:
        return BlockParts(
            norm_1=_norm(layer.ln_1),
            query_key_value=reader.product(layer.attn.c_attn),
            projection=reader.product(layer.attn.c_proj),
            norm_2=_norm(layer.ln_2),
            mlp=_mlp(reader.product(layer.mlp.c_fc), layer.mlp.act, reader.product(layer.mlp.c_proj)),
        )

    heads = config.num_attention_heads
    return DecoderParts(
        embed=embed,
        turns=None,
        blocks=tuple(block(layer) for layer in body.h),
        final_norm=_norm(body.ln_f),
        head=_head(model.lm_head, reader),
        heads=heads,
        key_value_heads=heads,
        head_width=config.hidden_size // heads,
        scale=body.h[0].attn.scaling,
        dtype=computes_in(model),
        device=model.device,
    )


def _llama(model: Any, config: Any, reader: LayerReader) -> DecoderParts:
    body = model.model
    if body.rotary_emb.rope_type not in STEADY_TURNS or set(getattr(config, "layer_types", None) or ()) > {
        "full_attention"
    }:
        raise NotReadable("positions or attention that change with the length")
    if any(getattr(layer.self_attn, "sliding_window", None) for layer in body.layers):
        raise NotReadable("a sliding window")

    like = torch.empty(0, dtype=computes_in(model), device=model.device)

    def turns(positions: int) -> tuple[Tensor, Tensor]:  # holds no model: `decoders.py` keeps parts while it lives
        cosines, sines = body.rotary_emb(like, torch.arange(positions, device=like.device)[None])
        return cosines[0], sines[0]

    attention = body.layers[0].self_attn
    return DecoderParts(
        embed=lambda ids, positions: body.embed_tokens(ids),
        turns=turns,
        blocks=tuple(_llama_block(layer.self_attn, layer.mlp, layer, reader) for layer in body.layers),
        final_norm=_norm(body.norm),
        head=_head(model.lm_head, reader),
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        head_width=attention.head_dim,
        scale=attention.scaling,
        dtype=computes_in(model),
        device=model.device,
    )


def _llama_block(attention: Any, mlp: Any, layer: Any, reader: LayerReader) -> BlockParts:
    norms_heads = hasattr(attention, "q_norm")
    return BlockParts(
        norm_1=_norm(layer.input_layernorm),
        query_key_value=reader.product(attention.q_proj, attention.k_proj, attention.v_proj),
        projection=reader.product(attention.o_proj),
        norm_2=_norm(layer.post_attention_layernorm),
        mlp=gated_mlp(reader.product(mlp.gate_proj, mlp.up_proj), mlp.act_fn, reader.product(mlp.down_proj)),
        query_norm=_norm(attention.q_norm) if norms_heads else None,
        key_norm=_norm(attention.k_norm) if norms_heads else None,
    )


def _norm(module: Any) -> Part:
    if isinstance(module, nn.LayerNorm):
        return lambda stream: F.layer_norm(stream, module.normalized_shape, module.weight, module.bias, module.eps)
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return lambda stream: F.rms_norm(stream, module.weight.shape, module.weight, module.variance_epsilon)
    raise NotReadable(type(module).__name__)


def _mlp(expand: Part, activation: nn.Module, contract: Part) -> Part:
    if isinstance(activation, NewGELUActivation):
        return lambda normed: contract(F.gelu(expand(normed), approximate="tanh"))
    return lambda normed: contract(activation(expand(normed)))


def _head(module: nn.Module, reader: LayerReader) -> Part:
    # A head that holds added rows apart, or whatever else stands in its place, computes itself.
    return reader.product(module) if type(module) is nn.Linear else module
