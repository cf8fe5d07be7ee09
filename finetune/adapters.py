"""LoRA on the linear layers of a model's blocks, through peft (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from dataclasses import dataclass

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from configs import InputError
from tokenizer_ext.embeddings import new_row_parameters


@dataclass(frozen=True, kw_only=True)
class Lora:
    """The shape of an adapter."""

    rank: int
    alpha: float
    dropout: float


def attach_lora(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """The model with LoRA on every linear layer of its blocks; that and separate new rows train, all else is frozen.

    Raises:
        InputError: the model has no linear layer in its blocks, or the rank is above what a layer can use.

    """
    names = linear_layer_names(model)
    if not names:
        raise InputError(
            f"{type(model).__name__}: no linear layers in its blocks, expected nn.Linear or Conv1D for LoRA"
        )
    smallest = min(min(model.get_submodule(name).weight.shape) for name in names)
    if not 1 <= lora.rank <= smallest:
        raise InputError(
            f"lora_rank: found {lora.rank}, expected 1 to {smallest}, the smaller side of the smallest layer"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
        # Conv1D stores (in, out) where Linear stores (out, in).
        fan_in_fan_out=isinstance(model.get_submodule(names[0]), Conv1D),
        task_type="CAUSAL_LM",
    )
    new_rows = list(new_row_parameters(model).values())
    adapted = get_peft_model(model, config)
    for rows in new_rows:  # get_peft_model froze them with the rest
        rows.requires_grad_(True)
    return adapted


def linear_layer_names(model: PreTrainedModel) -> list[str]:
    """The full names of the linear layers inside a model's repeated blocks, which leaves out the head."""
    blocks = {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and any(name.startswith(f"{block}.") for block in blocks)
    ]
