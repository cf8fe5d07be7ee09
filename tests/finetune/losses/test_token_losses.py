"""The nats of single tokens and their weighted gradients are those of the plain cross-entropy."""

import pytest
import torch
from torch.nn import functional as F

from finetune.losses.token_losses import segment_losses
from tests.finetune.largest_tensor import LargestTensor

S, D, ROWS = 37, 8, (20, 5, 3)


def _parts(trains=(True, True, True), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(S, D, generator=generator, dtype=dtype).requires_grad_()
    segments = [
        (
            torch.randn(rows, D, generator=generator, dtype=dtype).requires_grad_(trained),
            torch.randn(rows, generator=generator, dtype=dtype).requires_grad_(trained),
        )
        for rows, trained in zip(ROWS, trains, strict=True)
    ]
    return hidden, segments, torch.randint(sum(ROWS), (S,), generator=generator), torch.randn(S, generator=generator)


def _plain(hidden, segments, targets):
    weight, bias = (torch.cat([segment[part] for segment in segments]) for part in (0, 1))
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none")


@pytest.mark.parametrize("chunk_tokens", [1, 8, 128])
@pytest.mark.parametrize("trains", [(True, True, True), (False, True, False), (False, False, False)])
def test_nats_and_weighted_gradients_equal_the_plain_ones(trains, chunk_tokens):
    hidden, segments, targets, weights = _parts(trains)
    leaves = [hidden, *(part for segment in segments for part in segment if part.requires_grad)]
    ours, plain = segment_losses(hidden, targets, segments, chunk_tokens), _plain(hidden, segments, targets)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    # Weights that depend on the nats themselves, as those of a preference loss do.
    found = torch.autograd.grad((weights * ours).sum().sigmoid(), leaves)
    expected = torch.autograd.grad((weights * plain).sum().sigmoid(), leaves)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_a_frozen_segment_gets_no_gradient_and_a_backward_may_come_twice():
    hidden, segments, targets, weights = _parts((False, True, False))
    nats = segment_losses(hidden, targets, segments)
    once = torch.autograd.grad(nats @ weights, hidden, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(nats @ weights, hidden)[0], once)
    assert segments[0][0].grad is None


def test_without_gradients_nothing_is_kept():
    hidden, segments, targets, _ = _parts()
    with torch.no_grad():
        assert segment_losses(hidden, targets, segments).grad_fn is None


def test_under_autocast_products_are_in_half_precision_and_sums_are_not():
    hidden, segments, targets, weights = _parts((False, True, False))
    with torch.autocast("cpu", torch.bfloat16):
        nats = segment_losses(hidden, targets, segments)
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats, _plain(hidden, segments, targets), rtol=0.05, atol=0.1)
    (nats @ weights).backward()
    assert hidden.grad.dtype == torch.float32 and segments[1][0].grad.dtype == torch.float32


def test_the_logits_of_all_tokens_never_exist():
    hidden = torch.randn(512, D, requires_grad=True)
    weight, targets = torch.randn(3000, D), torch.randint(3000, (512,))
    with LargestTensor(hidden, weight) as made:
        segment_losses(hidden, targets, [(weight, None)]).sum().backward()
    assert made.elements <= 128 * 3000
