import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from configs import InputError
from scratch_models.decoding.sampling import keep_likely, next_ids, row_generator
from scratch_models.decoding.sampling_settings import Sampling


def random_logits(rows: int, vocabulary_size: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, vocabulary_size, generator=torch.Generator().manual_seed(seed))


def draw(logits: Tensor, sampling: Sampling, rows: range, steps: int) -> Tensor:
    """The ids of all rows over several steps under the same logits: (B, steps)."""
    generators = [row_generator(sampling, row) for row in rows]
    return torch.stack([next_ids(logits, sampling, generators) for _ in range(steps)], dim=1)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.9), (5, 1.0), (40, 0.5), (3, 0.99), (1000, 0.2), (1, 1.0)])
def test_what_can_be_drawn_is_what_transformers_leaves(top_k: int, top_p: float) -> None:
    logits = 3 * random_logits(20, 100)
    expected = TemperatureLogitsWarper(0.7)(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    assert torch.equal(keep_likely(logits / 0.7, top_k, top_p), expected)


def test_ids_are_drawn_with_the_probabilities_of_the_softmax() -> None:
    draws, sampling = 20_000, Sampling(temperature=0.5, seed=1)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -math.inf])
    generators = [row_generator(sampling, row) for row in range(draws)]
    counts = torch.bincount(next_ids(logits.expand(draws, 5), sampling, generators), minlength=5)
    expected = (logits / 0.5).softmax(dim=0) * draws
    assert counts[4] == 0
    assert (
        float(((counts - expected)[:4] ** 2 / expected[:4]).sum()) < 16.27
    )  # chi-square, 3 degrees of freedom, p = 0.001


def test_temperature_zero_takes_the_likeliest_id() -> None:
    logits = random_logits(8, 50)
    generators = [row_generator(Sampling(), row) for row in range(8)]
    assert torch.equal(next_ids(logits, Sampling(temperature=0), generators), logits.argmax(dim=-1))


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(top_p=1e-9), Sampling(temperature=1e-6)])
def test_the_narrowest_settings_are_greedy(sampling: Sampling) -> None:
    logits = random_logits(8, 50)
    assert torch.equal(draw(logits, sampling, range(8), 1)[:, 0], logits.argmax(dim=-1))


def test_a_row_does_not_depend_on_the_batch_it_is_in() -> None:
    logits, sampling = random_logits(6, 50), Sampling(temperature=1.0, top_k=20, top_p=0.95, seed=7)
    together = draw(logits, sampling, range(6), steps=30)
    alone = torch.cat([draw(logits[row : row + 1], sampling, range(row, row + 1), steps=30) for row in range(6)])
    assert torch.equal(together, alone)


def test_rows_and_seeds_differ() -> None:
    logits = random_logits(1, 50).expand(2, 50)
    rows = draw(logits, Sampling(seed=0), range(2), steps=40)
    assert not torch.equal(rows[0], rows[1])
    other_seed = draw(logits, Sampling(seed=1), range(2), steps=40)
    assert not (rows[:, None] == other_seed).all(dim=-1).any()


def test_two_models_with_one_seed_share_their_noise_even_where_one_has_more_tokens() -> None:
    logits, sampling = random_logits(4, 50), Sampling(temperature=1.0)
    grown = torch.cat([logits, torch.full((4, 13), -math.inf)], dim=1)
    assert torch.equal(draw(logits, sampling, range(4), 30), draw(grown, sampling, range(4), 30))


def test_models_that_hardly_differ_choose_the_same_ids_under_one_seed() -> None:
    logits, sampling = random_logits(1, 50), Sampling(temperature=1.0)
    nearly = logits + 1e-3 * random_logits(1, 50, seed=1)
    agreement = (draw(logits, sampling, range(1), 200) == draw(nearly, sampling, range(1), 200)).float().mean()
    assert agreement > 0.97  # independent draws agree in about one of twenty


def test_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    draw(random_logits(2, 10), Sampling(), range(2), steps=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_broken_logits_are_refused_with_their_row(value: float, temperature: float) -> None:
    logits = random_logits(3, 10)
    logits[1, 4] = value
    with pytest.raises(InputError, match=r"largest logit of row 1 is (nan|inf), expected a finite number"):
        draw(logits, Sampling(temperature=temperature), range(3), steps=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 1e-300),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", math.nan),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{field} is "):
        Sampling(**{field: value})
