"""The codes of an autoencoder: the nearest rows, gradients past the choice, and images that survive them."""

import pytest
import torch
from torch.nn import functional as F

from scratch_models.image_words.autoencoder import COMMITMENT, PLACES, Autoencoder, fit_autoencoder
from scratch_models.image_words.digit_images import DigitClassifier, jittered, load_digits

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'graft-lm[images]'")


@pytest.fixture
def model() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(codes=16, width=8)


def test_a_code_is_the_row_with_the_smallest_distance(model: Autoencoder) -> None:
    images = torch.rand(5, 8, 8)
    middle, rows = model.middle(images).double(), model.codebook.weight.double()
    expected = (middle.unsqueeze(2) - rows).square().sum(dim=-1).argmin(dim=-1)  # (N, P)
    assert torch.equal(model.encode(images), expected)
    assert expected.shape == (5, PLACES)


def test_the_gradients_are_those_of_the_three_losses_of_the_paper(model: Autoencoder) -> None:
    images = torch.rand(5, 8, 8)
    loss, codes = model(images)
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    # The decoder learns of its error, the codebook of its own loss, the encoder of both others by a copied gradient.
    middle = model.middle(images)
    rows = model.codebook(codes)
    leaf = rows.detach().clone().requires_grad_()
    error = F.mse_loss(model.paint(leaf), images)
    (at_leaf,) = torch.autograd.grad(error, leaf, retain_graph=True)
    error.backward()
    F.mse_loss(rows, middle.detach()).backward()
    middle.backward(at_leaf + COMMITMENT * 2 * (middle - rows).detach() / middle.numel())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_two_fits_are_equal() -> None:
    read, held_out = load_digits(seed=0)
    assert len(read.labels) + len(held_out.labels) == 1797
    assert set(map(bytes, read.images.numpy())).isdisjoint(map(bytes, held_out.images.numpy()))
    first, second = (fit_autoencoder(read.images, 16, steps=20, learning_rate=2e-3, seed=1) for _ in range(2))
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_jittered_digits_are_other_images_of_the_same_digits_that_a_classifier_knows() -> None:
    read, held_out = load_digits(seed=0)
    copies = jittered(held_out, 3, seed=0)
    assert torch.equal(copies.labels, held_out.labels.repeat(3))
    assert not any(torch.equal(*pair) for pair in zip(copies.images, held_out.images.repeat(3, 1, 1), strict=True))
    assert DigitClassifier(read).recognised(copies).float().mean() > 0.9
