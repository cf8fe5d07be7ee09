import pytest
import torch

from configs import InputError
from scratch_models.decoding.generation import generate
from scratch_models.decoding.sampling import next_ids, row_generator
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig


def gpt() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocabulary_size=40, block_size=12, layers=2, heads=2, width=32, dropout=0.1))
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)  # far from even guesses, so that a wrong context shows
    return model


@torch.no_grad()
def continued_without_cache(model: GPT, ids: list[int], count: int, sampling: Sampling) -> list[int]:
    model.eval()
    ids, generators = list(ids), [row_generator(sampling)]
    for _ in range(count):
        window = torch.tensor([ids[-model.config.block_size :]])
        ids.append(int(next_ids(model(window)[:, -1], sampling, generators)))
    return ids[-count:]


@pytest.mark.parametrize("prompt_tokens", [1, 5, 12, 30])
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=1.0, top_k=20, seed=3)])
def test_ids_are_those_of_full_passes_over_the_last_block(prompt_tokens: int, sampling: Sampling) -> None:
    model = gpt()
    prompt = torch.randint(40, (prompt_tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    ids = list(generate(model, prompt, 30, sampling))  # before anything else puts the model in evaluation mode
    expected = continued_without_cache(model, prompt, 30, sampling)
    assert ids == expected
    assert len(set(expected)) > 2


def test_a_bigram_walks_along_its_table() -> None:
    model = BigramLanguageModel(5)
    following = [3, 0, 1, 4, 2]
    model.token_embedding_table.weight.data = torch.eye(5)[following]
    assert list(generate(model, [2, 0], 6, Sampling(temperature=0))) == [3, 4, 2, 1, 0, 3]


def test_ids_come_one_at_a_time_and_leave_the_prompt_alone() -> None:
    prompt = [1, 2]
    ids = generate(gpt(), prompt, 10**9, Sampling())
    assert [next(ids) for _ in range(3)] == list(generate(gpt(), prompt, 3, Sampling()))
    assert prompt == [1, 2]


def test_generation_keeps_no_graph_and_turns_no_gradient_off_for_its_caller() -> None:
    model, with_graph = gpt(), []
    model.final_norm.register_forward_hook(
        lambda *inputs_and_output: with_graph.append(inputs_and_output[2].requires_grad)
    )
    for _ in generate(model, [1], 2, Sampling()):
        assert torch.is_grad_enabled()
    assert with_graph == [False, False]


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to continue"):
        next(generate(gpt(), [], 3, Sampling()))
