"""The decoder of blocks: a row read in pieces is the row read at once, padded or not, of every model that has parts."""

from typing import Any

import pytest
import torch

from scratch_models.decoding.block_decoder import BlockDecoder
from scratch_models.decoding.generation import generate, generate_rows
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.decoding.scratch_parts import parts_of
from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.llama import Llama, LlamaConfig
from scratch_models.rungs.speedrun import Speedrun, SpeedrunConfig

SHAPE: dict[str, Any] = {"vocabulary_size": 50, "block_size": 24, "layers": 2, "heads": 4, "width": 32}


def model_of(kind: str) -> GPT | Llama:
    torch.manual_seed(0)
    if kind == "gpt":
        model: GPT | Llama = GPT(GPTConfig(**SHAPE))
    else:
        model = Llama(LlamaConfig(**SHAPE, key_value_heads=2, hidden_width=80))
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gpt", "llama"])
@pytest.mark.parametrize("pieces", [[24], [1] * 24, [10, 1, 1, 12], [5, 7, 11, 1]])
def test_logits_of_pieces_are_those_of_one_pass(kind: str, pieces: list[int]) -> None:
    model, ids = model_of(kind), torch.randint(50, (3, 24), generator=torch.Generator().manual_seed(2))
    decoder, whole, end = BlockDecoder(parts_of(model), rows=3, room=4), model(ids), 0
    for piece in pieces:
        start, end = end, end + piece
        logits = decoder.read(ids[:, start:end], torch.arange(start, end).expand(3, -1), None)
        torch.testing.assert_close(logits, whole[:, end - 1], rtol=0, atol=2e-5)


def every_model() -> list[ScratchModel]:
    torch.manual_seed(1)
    speedrun = Speedrun(SpeedrunConfig(**SHAPE, zero_projections=False))
    return [model_of("gpt"), model_of("llama"), BigramLanguageModel(50), speedrun]


@pytest.mark.parametrize("model", every_model(), ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_prompts_of_unequal_length_go_on_together_as_they_would_alone(model: ScratchModel, temperature: float) -> None:
    prompts, sampling = [[1, 2, 3, 4, 5], [6], [7, 8]], Sampling(temperature=temperature, seed=4)
    together = list(generate_rows(model, prompts, 40, sampling))  # beyond the window of 24
    assert [row[0] for row in together] == list(generate(model, prompts[0], 40, sampling))
    if temperature == 0:
        for number, prompt in enumerate(prompts):
            assert [row[number] for row in together] == list(generate(model, prompt, 40, sampling))
