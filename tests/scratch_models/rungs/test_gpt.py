import math
from typing import Any

import pytest
import torch

from configs import InputError
from scratch_models.rungs.gpt import GPT, GPTConfig

CONFIG = GPTConfig(vocabulary_size=60, block_size=24, layers=3, heads=4, width=32)


def model_of(config: GPTConfig = CONFIG) -> GPT:
    torch.manual_seed(0)
    return GPT(config).eval()


def random_ids(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(CONFIG.vocabulary_size, (rows, tokens), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_changing_a_token_moves_no_earlier_logit_and_every_later_one() -> None:
    model, ids = model_of(), random_ids(2, 24)
    changed = ids.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 60
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] != after[:, 10:]).any(dim=-1).all()


@torch.no_grad()
def test_an_earlier_token_is_told_apart_by_its_position() -> None:
    model = model_of()
    swapped = model(torch.tensor([[7, 8, 9]])) - model(torch.tensor([[8, 7, 9]]))
    assert swapped[0, 2].abs().max() > 1e-4


@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch() -> None:
    model, ids = model_of(), random_ids(4, 12)
    torch.testing.assert_close(model(ids)[2:3], model(ids[2:3]), rtol=0, atol=1e-5)


def test_a_row_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(InputError, match="25 tokens do not fit the 24 positions"):
        model_of()(random_ids(1, 25))


def test_start_values_are_those_of_gpt2() -> None:
    config = GPTConfig(vocabulary_size=500, block_size=128, layers=8, heads=4, width=128, tied=False)
    model = model_of(config)
    residual = {"attention.projection.weight", "mlp.contract.weight"}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            expected = torch.ones if "norm" in name and name.endswith("weight") else torch.zeros
            assert torch.equal(parameter, expected(parameter.shape)), name
            continue
        standard_deviation = 0.02 / math.sqrt(2 * 8) if name.split(".", 2)[-1] in residual else 0.02
        assert parameter.std().item() == pytest.approx(standard_deviation, rel=0.03), name
        assert parameter.mean().item() == pytest.approx(0, abs=4 * standard_deviation / math.sqrt(parameter.numel())), (
            name
        )


def test_the_untrained_model_guesses_evenly() -> None:
    probabilities = model_of()(random_ids(2, 24)).softmax(dim=-1)
    assert probabilities.max() < 3 / 60


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_shares_the_embedding_matrix_only_where_tied(tied: bool) -> None:
    model = model_of(GPTConfig(vocabulary_size=60, block_size=8, layers=1, heads=2, width=16, tied=tied))
    assert (model.lm_head.weight is model.token_embedding_table.weight) == tied
    count = sum(parameter.numel() for parameter in model.parameters())
    blocks = 12 * 16**2 + 13 * 16  # of one block: 4 D^2 + 8 D^2 in matrices, 13 D in biases and norms
    assert count == blocks + 2 * 16 + (8 + 60 + (0 if tied else 60)) * 16


def test_dropout_acts_in_training_alone() -> None:
    model, ids = (
        model_of(GPTConfig(vocabulary_size=60, block_size=24, layers=2, heads=2, width=32, dropout=0.2)),
        random_ids(1, 8),
    )
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


def test_every_parameter_learns() -> None:
    model, ids = model_of(), random_ids(4, 25)
    torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary_size": 0}, "at least 1"),
        ({"vocabulary_size": 8, "layers": 0}, "at least 1"),
        ({"vocabulary_size": 8, "width": 30, "heads": 4}, "width 30 is not a multiple of heads 4"),
    ],
)
def test_an_impossible_shape_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GPTConfig(**fields)
