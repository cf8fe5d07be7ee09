"""The model that preferences are taught to: an assistant as a whole, or any base.

An assistant that a run left as base and adapter is merged first. So the new adapter lies on the assistant alone, and
the assistant is what remains when it is switched off.
"""

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.export.hub import fetch
from finetune.export.saved_model import ADAPTER_CONFIG, load_adapted, model_folder
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import TrainableModel, make_trainable_model
from scratch_models.embedded_default import EMBEDDED, EMBEDDED_BASE
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer


def load_start(base: str, device: torch.device) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model and its tokenizer: `embedded`, a Hub name, a folder, or a run here or on the Hub, its adapter merged.

    Raises:
        InputError: there is no model, or the run is not finished.

    """
    path = EMBEDDED_BASE if base == EMBEDDED else model_folder(fetch(base))
    if not (path / ADAPTER_CONFIG).is_file():
        return load_model(str(path)).to(device), load_tokenizer(str(path))
    adapted, tokenizer = load_adapted(path)
    merged = adapted.merge_and_unload()
    if hasattr(merged, "peft_config"):  # peft would warn that ours is a second adapter
        del merged.peft_config
    return merged.to(device), tokenizer


def prepare_start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, lora: Lora | None) -> TrainableModel:
    """The model with the control tokens that it lacks, and what trains of it; its own dropout is off."""
    switch_off_dropout(model)
    return make_trainable_model(model, tokenizer, [], new_tokens=0, lora=lora)


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


def read_original(base: str, device: torch.device) -> PreTrainedModel:
    """The start once more, with the same control tokens and no adapter."""
    return prepare_start(*load_start(base, device), lora=None).model.eval()
