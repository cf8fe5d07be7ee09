"""The divergence in chunks is torch's, and so are its gradients."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from finetune.losses.divergence import compare_places, summed_divergence

S, D, V, N = 7, 6, 11, 3


@pytest.fixture
def numbers():
    torch.manual_seed(0)
    shapes = {"hidden": (S, D), "taught": (S, D), "old": (V, D), "old_bias": (V,), "new": (N, D), "new_bias": (N,)}
    return {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}


def _plain(hidden, taught, old, new):
    """KL(teacher || student) by torch, the student over all ids."""
    logits = [F.linear(hidden, *part) for part in (old, new) if part is not None]
    found = torch.cat(logits, dim=1).log_softmax(dim=1)
    wanted = F.linear(taught, *old).log_softmax(dim=1)
    return F.kl_div(found[:, :V], wanted, reduction="sum", log_target=True)


@pytest.mark.parametrize("chunk", [1, 3, S])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("with_new", [False, True])
def test_value_and_gradients_are_those_of_the_plain_formula(numbers, chunk, biased, with_new):
    old = numbers["old"], numbers["old_bias"] if biased else None
    found = []
    for formula in (_plain, partial(summed_divergence, chunk_places=chunk)):
        hidden, rows = (numbers[name].clone().requires_grad_() for name in ("hidden", "new"))
        new = (rows, numbers["new_bias"] if biased else None) if with_new else None
        nats = formula(hidden, numbers["taught"], old, new)
        (2.5 * nats).backward()
        found.append([nats.detach(), hidden.grad, *([rows.grad] if with_new else [])])
    torch.testing.assert_close(*found)


def test_gradients_stand_a_numerical_check(numbers):
    hidden, new = (numbers[name].requires_grad_() for name in ("hidden", "new"))
    old = numbers["old"], numbers["old_bias"]
    assert torch.autograd.gradcheck(
        lambda own, rows: summed_divergence(own, numbers["taught"], old, (rows, numbers["new_bias"])), (hidden, new)
    )


def test_what_is_compared_adds_up_to_what_is_trained(numbers):
    old, new = (numbers["old"], numbers["old_bias"]), (numbers["new"], numbers["new_bias"])
    found = compare_places(numbers["hidden"], numbers["taught"], old, new, chunk_places=2)
    with_new = found.divergence - (1 - found.new_share).log()
    torch.testing.assert_close(with_new.sum(), _plain(numbers["hidden"], numbers["taught"], old, new).float())
    alone = F.kl_div(
        F.linear(numbers["hidden"], *old).log_softmax(1), F.linear(numbers["taught"], *old).log_softmax(1),
        reduction="sum", log_target=True,
    )  # fmt: skip
    torch.testing.assert_close(found.divergence.sum(), alone.float())
    same = compare_places(numbers["taught"], numbers["taught"], old, new)
    assert same.divergence.abs().max() < 1e-6 and same.same_choice.all()
