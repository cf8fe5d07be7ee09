"""Rendered pairs and adapted models for the tests of preference tuning."""

from typing import Any

import torch
from torch import nn

from finetune.chat.graft_format import GraftFormat
from finetune.conversations.pairs import Pair, to_pair
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import TrainableModel
from finetune.preference.batches import PreferenceBatches, render_pairs
from finetune.preference.start_model import prepare_start
from tests.finetune.pair_records import pair_records
from tests.finetune.tiny_models import TINY_MODELS


def pairs(number: int = 24) -> list[Pair]:
    """Pairs of different lengths."""
    return [to_pair(record, f"pairs.jsonl:{line}") for line, record in enumerate(pair_records(number), 1)]


def batches_of(tokenizer, number: int = 24, **settings: Any) -> PreferenceBatches:
    """Their micro-batches."""
    choices: dict[str, Any] = {"pairs_per_step": 8, "tokens_per_micro_batch": 400, "seed": 0, **settings}
    return PreferenceBatches(render_pairs(GraftFormat(tokenizer), pairs(number)), **choices)


def adapted(tokenizer, architecture: str = "gpt2", lora: Lora | None = None, moved: bool = True) -> TrainableModel:
    """A tiny assistant with LoRA, whose adapter has `moved` away from its start."""
    no_dropout: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    model = TINY_MODELS[architecture](len(tokenizer), **({} if architecture == "llama" else no_dropout))
    trainable = prepare_start(model, tokenizer, lora or Lora(rank=4, alpha=8.0, dropout=0.0))
    if moved:
        move(model)
    return trainable


def move(model: nn.Module) -> None:
    """Changes everything that trains."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
