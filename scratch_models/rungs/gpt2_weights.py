"""Weights between `GPT` and Hugging Face's GPT-2, by a table of names.

transformers keeps the linear layers of GPT-2 as `Conv1D`, whose weight is (inputs, outputs); that of `nn.Linear` is
(outputs, inputs).

Source of the names: transformers, `models/gpt2/modeling_gpt2.py`. Of the four sizes: Radford et al. 2019, table 2, with
the heads of the released models.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedConfig, PreTrainedTokenizerBase

from configs import InputError, MissingInput
from configs.errors import on_one_line
from scratch_models.rungs.gpt import GPT, GPTConfig
from tokenizer_ext.foreign.checked_folder import check_model_folder
from tokenizer_ext.huggingface.hub_names import is_mistyped_path

GPT2_SIZES = {
    "gpt2": GPTConfig(vocabulary_size=50257, block_size=1024, layers=12, heads=12, width=768),
    "gpt2-medium": GPTConfig(vocabulary_size=50257, block_size=1024, layers=24, heads=16, width=1024),
    "gpt2-large": GPTConfig(vocabulary_size=50257, block_size=1024, layers=36, heads=20, width=1280),
    "gpt2-xl": GPTConfig(vocabulary_size=50257, block_size=1024, layers=48, heads=25, width=1600),
}


class WeightName(NamedTuple):
    """One weight under its two names."""

    scratch: str
    transformers: str
    transposed: bool = False


MODEL_NAMES = (
    WeightName("token_embedding_table.weight", "transformer.wte.weight"),
    WeightName("position_embedding_table.weight", "transformer.wpe.weight"),
    WeightName("final_norm.weight", "transformer.ln_f.weight"),
    WeightName("final_norm.bias", "transformer.ln_f.bias"),
)
BLOCK_NAMES = (  # after `blocks.{i}.` and `transformer.h.{i}.`
    WeightName("norm_1.weight", "ln_1.weight"),
    WeightName("norm_1.bias", "ln_1.bias"),
    WeightName("attention.query_key_value.weight", "attn.c_attn.weight", transposed=True),
    WeightName("attention.query_key_value.bias", "attn.c_attn.bias"),
    WeightName("attention.projection.weight", "attn.c_proj.weight", transposed=True),
    WeightName("attention.projection.bias", "attn.c_proj.bias"),
    WeightName("norm_2.weight", "ln_2.weight"),
    WeightName("norm_2.bias", "ln_2.bias"),
    WeightName("mlp.expand.weight", "mlp.c_fc.weight", transposed=True),
    WeightName("mlp.expand.bias", "mlp.c_fc.bias"),
    WeightName("mlp.contract.weight", "mlp.c_proj.weight", transposed=True),
    WeightName("mlp.contract.bias", "mlp.c_proj.bias"),
)
HEAD_NAME = WeightName("lm_head.weight", "lm_head.weight")  # written only where the head is not tied

# Fields of GPT-2's configuration that change its logits, and the only values that `GPT` computes.
COMPUTED_VALUES: dict[str, tuple[object, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def load_gpt2(name_or_folder: str | Path) -> GPT:
    """The GPT-2 of a Hugging Face folder or Hub name as a `GPT` in single precision, in evaluation mode.

    Raises:
        InputError: it is no GPT-2, computes something that `GPT` does not, or lacks a weight.
    """
    config = _read_config(str(name_or_folder))
    if Path(name_or_folder).is_dir():
        check_model_folder(Path(name_or_folder))
    shape = _shape_of(config, str(name_or_folder))
    source = _read_model(str(name_or_folder), config)
    # transformers unties where a checkpoint holds two different matrices, whatever its configuration says.
    shape = dataclasses.replace(shape, tied=source.lm_head.weight is source.transformer.wte.weight)
    weights = source.state_dict()
    with torch.device("meta"):
        model = GPT(shape)
    # Copies, since transformers maps the file into memory: a model must not change when its file is written again.
    state = {name.scratch: _transpose(weights[name.transformers], name).clone() for name in weight_names(shape)}
    if shape.tied:
        state[HEAD_NAME.scratch] = state["token_embedding_table.weight"]
    model.load_state_dict(state, assign=True)
    if shape.tied:
        model.lm_head.weight = model.token_embedding_table.weight
    return model.eval()


def save_gpt2(
    model: GPT,
    folder: str | Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a folder that `GPT2LMHeadModel` and `AutoTokenizer` open; `dtype` casts the weights, None keeps them."""
    if type(model.token_embedding_table) is not nn.Embedding or type(model.lm_head) is not nn.Linear:
        raise ValueError(
            "the model has extended rows: fold them with tokenizer_ext.embeddings.tables.fold before it is saved"
        )
    config = gpt2_config(model, tokenizer)
    if tokenizer is not None and len(tokenizer) > config.vocab_size:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} tokens and the model {config.vocab_size} rows: grow the rows first"
        )
    weights = gpt2_weights(model, dtype)
    config.dtype = weights["transformer.wte.weight"].dtype
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def weight_names(config: GPTConfig) -> list[WeightName]:
    """Every weight of a model of this shape under both names."""
    blocks = (
        WeightName(f"blocks.{layer}.{name.scratch}", f"transformer.h.{layer}.{name.transformers}", name.transposed)
        for layer in range(config.layers)
        for name in BLOCK_NAMES
    )
    return [*MODEL_NAMES, *blocks, *([] if config.tied else [HEAD_NAME])]


def gpt2_weights(model: GPT, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The model's weights under transformers' names and in its layout."""
    state = model.state_dict()
    return {
        name.transformers: _transpose(state[name.scratch], name).to(dtype or state[name.scratch].dtype)
        for name in weight_names(model.config)
    }


def gpt2_config(model: GPT, tokenizer: PreTrainedTokenizerBase | None = None) -> GPT2Config:
    """The configuration under which transformers computes the same logits."""
    config = model.config
    return GPT2Config(
        architectures=["GPT2LMHeadModel"],
        vocab_size=model.token_embedding_table.num_embeddings,  # the rows as they are, added ones included
        n_positions=config.block_size,
        n_layer=config.layers,
        n_head=config.heads,
        n_embd=config.width,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        tie_word_embeddings=config.tied,
        # The default, 50256, would lie outside a small vocabulary.
        bos_token_id=tokenizer.bos_token_id if tokenizer is not None else None,
        eos_token_id=tokenizer.eos_token_id if tokenizer is not None else None,
    )


def _read_config(name: str) -> GPT2Config:
    if not Path(name).is_dir():
        _refuse_mistyped_folder(name)
    try:
        fields: dict[str, Any] = PreTrainedConfig.get_config_dict(name)[0]
        if fields.get("model_type") != "gpt2":
            raise InputError(f"{name}: its model_type is {fields.get('model_type')!r}, expected a GPT-2 ('gpt2')")
        return GPT2Config.from_dict(fields)
    except (OSError, StrictDataclassError) as error:
        raise InputError(f"{name}: no usable config.json ({on_one_line(error)}), expected a GPT-2 folder") from None


def _refuse_mistyped_folder(name: str) -> None:
    if Path(name).exists() or is_mistyped_path(name):
        raise MissingInput(
            f"{name}: no such folder, expected a GPT-2 folder or a Hub name such as openai-community/gpt2"
        )


def _shape_of(config: GPT2Config, name: str) -> GPTConfig:
    for field, computed in COMPUTED_VALUES.items():
        if getattr(config, field) not in computed:
            expected = " or ".join(map(repr, computed))
            raise InputError(
                f"{name}: {field} is {getattr(config, field)!r}, expected {expected}: GPT computes no other"
            )
    if config.n_inner not in (None, 4 * config.n_embd):
        raise InputError(f"{name}: n_inner is {config.n_inner}, expected 4 * n_embd = {4 * config.n_embd}")
    dropouts = {config.resid_pdrop, config.embd_pdrop, config.attn_pdrop}
    if len(dropouts) > 1:
        raise InputError(
            f"{name}: resid_pdrop, embd_pdrop and attn_pdrop are {sorted(dropouts)}, expected one value for all"
        )
    return GPTConfig(
        vocabulary_size=config.vocab_size,
        block_size=config.n_positions,
        layers=config.n_layer,
        heads=config.n_head,
        width=config.n_embd,
        dropout=config.resid_pdrop,
        tied=config.tie_word_embeddings,
    )


def _read_model(name: str, config: GPT2Config) -> GPT2LMHeadModel:
    try:
        source, report = GPT2LMHeadModel.from_pretrained(
            name, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"{name}: its weights cannot be read ({on_one_line(error)})") from None
    # transformers only warns of these, and fills them with random numbers.
    if report["missing_keys"]:
        raise InputError(
            f"{name}: its weights lack {sorted(report['missing_keys'])[0]}, expected every weight of a GPT-2"
        )
    return source


def _transpose(weight: Tensor, name: WeightName) -> Tensor:
    return weight.t().contiguous() if name.transposed else weight
