"""Several continuations: what each id costs is what a loop over its past finds, and the cheapest comes first."""

import pytest
import torch

from scratch_models.decoding.best_of import nats_of, sample_candidates
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig


def gpt() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocabulary_size=30, block_size=8, layers=1, heads=2, width=16))
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@torch.no_grad()
@pytest.mark.parametrize("model", [gpt(), BigramLanguageModel(30)], ids=["gpt", "bigram"])
@pytest.mark.parametrize("prompt", [[1], [1, 2, 3], list(range(12))])
def test_each_id_costs_what_the_model_says_of_it_after_its_window(model: ScratchModel, prompt: list[int]) -> None:
    continued = torch.randint(30, (20,), generator=torch.Generator().manual_seed(3)).tolist()
    window = 1 if isinstance(model, BigramLanguageModel) else 8
    expected = []
    for place, id_ in enumerate(continued):
        seen = [*prompt, *continued[:place]][-window:]
        expected.append(-model(torch.tensor([seen]))[0, -1].log_softmax(-1)[id_])
    torch.testing.assert_close(nats_of(model, prompt, continued), torch.stack(expected), rtol=0, atol=1e-5)


def test_the_likeliest_continuation_comes_first_and_all_are_counted() -> None:
    found = sample_candidates(gpt(), [1, 2], 5, 12, Sampling(temperature=1.5, seed=2))
    costs = [candidate.nats_per_token for candidate in found.ranked]
    assert costs == sorted(costs)
    assert len({candidate.ids for candidate in found.ranked}) == 5, "each has noise of its own"
    assert found.tokens == 5 * 12
    again = sample_candidates(gpt(), [1, 2], 5, 12, Sampling(temperature=1.5, seed=2))
    assert again.ranked == found.ranked


def test_a_continuation_ends_with_the_end_of_text_which_is_no_part_of_it() -> None:
    model = BigramLanguageModel(4)
    model.token_embedding_table.weight.data = 50 * torch.eye(4)[[1, 2, 3, 0]]  # 0 1 2 3, surely
    found = sample_candidates(model, [0], 2, 10, Sampling(temperature=1.0), end_id=3)
    assert [candidate.ids for candidate in found.ranked] == [(1, 2), (1, 2)]
    assert found.tokens == 6
