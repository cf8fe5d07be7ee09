"""Tiny models for the tests of the studio: one that says varied things, one that says a given text."""

import torch
from torch.nn.functional import normalize
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WIDTH = 32
POSITIONS = 1200


def varied_model(vocabulary_size: int, positions: int = POSITIONS) -> GPT2LMHeadModel:
    """2 layers x 32 with wide random weights."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary_size,
        n_positions=positions,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def model_that_says(tokenizer: PreTrainedTokenizerFast, text: str, prompt_tokens: int) -> GPT2LMHeadModel:
    """Replies greedily to any prompt of so many tokens with `text`, again and again; it may hold special tokens.

    With empty blocks a GPT-2 sees its position and its last id alone. Here each position outweighs the id, and points
    at the row of the id to say.
    """
    model = varied_model(len(tokenizer))
    rows = torch.randn(len(tokenizer), WIDTH)
    rows = normalize(rows - rows.mean(dim=-1, keepdim=True), dim=-1)  # so that the final norm only scales them
    ids = tokenizer.encode(text)
    with torch.no_grad():
        for parameter in model.transformer.h.parameters():
            parameter.zero_()
        model.transformer.wte.weight.copy_(rows)
        for position in range(POSITIONS):
            model.transformer.wpe.weight[position] = 100 * rows[ids[(position - prompt_tokens + 1) % len(ids)]]
    return model
