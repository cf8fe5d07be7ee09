"""The model that preferences are taught to: an assistant as a whole, or any base.

An assistant that a run left as base and adapter is merged first. So the new adapter lies on the assistant alone, and
the assistant is what remains when it is switched off.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.choose_format import ChatChoice
from finetune.export.saved_model import load_start
from finetune.lora.adapter_shape import Lora
from finetune.lora.held_base import IN_SINGLE, HeldAs, held_as_set
from finetune.lora.resolved_settings import choose_maximum_tokens
from finetune.lora.rope_scaling import scale_rope
from finetune.lora.trainable_model import TrainableModel, make_trainable_model
from finetune.preference.settings import DpoSettings
from finetune.sliced.sliced_base import open_sliced, train_in_slices
from scratch_models.loop.run_folder import find_recorded
from scratch_models.sharded.sliced_model import SlicedModel
from tokenizer_ext.held_weights.quantised_layers import held_bits
from tokenizer_ext.huggingface.hf_model import positions_of


def take_calculator(settings: DpoSettings) -> DpoSettings:
    """The settings with the calculator that the run given as base recorded, where they do not say themselves."""
    recorded = Path(settings.base).exists() and find_recorded(settings.base, "calculator") is True
    return replace(settings, calculator=True) if settings.calculator is None and recorded else settings


def prepare_start(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, lora: Lora | None, chat: ChatChoice = "auto"
) -> TrainableModel:
    """The model with the control tokens that it lacks, and what trains of it; its own dropout is off."""
    switch_off_dropout(model)
    return make_trainable_model(model, tokenizer, [], new_tokens=0, lora=lora, chat=chat)


def switch_off_dropout(model: nn.Module) -> None:
    """Takes a model's dropout away, which its config keeps: its noise would count as a difference from the reference.

    >>> model = nn.Sequential(nn.Dropout(0.1))
    >>> switch_off_dropout(model)
    >>> model[0].p
    0.0
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):  # a number in Llama's and its like's layers
            module.attention_dropout = 0.0  # type: ignore[assignment]


def read_trainable(
    settings: DpoSettings, accelerator: Accelerator
) -> tuple[TrainableModel, DpoSettings, SlicedModel | None]:
    """The base of a run, its positions scaled where that is wanted, as what trains; whole, or spread by slices.

    The settings say then how long a reply may be, and in how many bits the base is held.
    """
    opened = open_sliced(settings.base, settings, accelerator, settings.chat, has_reference=True)
    sliced = None
    if opened is None:
        model, tokenizer = load_start(settings.base, accelerator.device, held_as_set(settings))
        trainable = prepare_start(scale_rope(model, settings.rope_scaling), tokenizer, settings.lora, settings.chat)
    else:
        switch_off_dropout(opened.model)
        trainable, sliced = train_in_slices(opened, settings, accelerator)
    longest = choose_maximum_tokens(settings.maximum_tokens, positions_of(trainable.model))
    return trainable, replace(settings, maximum_tokens=longest, base_bits=held_bits(trainable.model)), sliced


def read_original(
    base: str,
    device: torch.device,
    chat: ChatChoice = "auto",
    rope_scaling: Mapping[str, Any] | None = None,
    held_as: HeldAs = IN_SINGLE,
) -> PreTrainedModel:
    """The start once more, with the same control tokens and positions, held in as many bits, and no adapter."""
    model, tokenizer = load_start(base, device, held_as)
    return prepare_start(scale_rope(model, rope_scaling or {}), tokenizer, lora=None, chat=chat).model.eval()
