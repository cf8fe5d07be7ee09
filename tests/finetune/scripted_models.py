"""A model that says what it is told to, whatever it reads."""

from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional as F
from transformers import GPT2LMHeadModel, PreTrainedModel

from tests.finetune.tiny_models import tiny_gpt2


def scripted_model(vocabulary: int, script: list[int], prompt_ids: int) -> PreTrainedModel:
    """A GPT-2 whose id after `prompt_ids` ids is the first of the script, and so on; it stays at the last."""
    model: Any = tiny_gpt2(vocabulary)
    plain = GPT2LMHeadModel.forward

    def forward(input_ids: torch.Tensor, position_ids: torch.Tensor, **settings: Any) -> SimpleNamespace:
        plain(model, input_ids=input_ids, position_ids=position_ids, **settings)  # fills the cache
        places = (position_ids[:, -1] + 1 - prompt_ids).clamp(max=len(script) - 1)  # (B)
        chosen = torch.tensor(script)[places]  # (B)
        return SimpleNamespace(logits=F.one_hot(chosen, vocabulary)[:, None].float())  # (B, 1, V)

    model.forward = forward
    return model
