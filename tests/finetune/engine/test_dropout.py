"""Fast dropout: the asked share, an exact expectation, and masks that the seed decides."""

import pytest
import torch

from finetune.engine.dropout import MaskSource, drop


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_rest_keeps_the_expectation(share: float):
    torch.manual_seed(0)
    dropped = drop(torch.ones(1_000_000), share)
    deviation = (share * (1 - share) / 1_000_000) ** 0.5
    assert abs(float((dropped == 0).float().mean()) - share) < 5 * deviation + 2**-17
    assert abs(float(dropped.mean()) - 1) < 6 * deviation / (1 - share)
    source = MaskSource(share)
    assert source.scale * (1 - source.threshold / 2**16) == 1.0


def test_elements_are_dropped_independently_of_their_neighbours():
    torch.manual_seed(0)
    kept = MaskSource(0.3).draw(torch.Size((1000, 1000))).double() - 0.7
    for neighbour in (kept[:, 1:] * kept[:, :-1], kept[:, 4:] * kept[:, :-4], kept[1:] * kept[:-1]):
        assert abs(float(neighbour.mean())) < 5 * 0.21 / 1000


def test_torchs_seed_decides_the_mask():
    torch.manual_seed(3)
    first, second = drop(torch.ones(999), 0.5), drop(torch.ones(999), 0.5)
    torch.manual_seed(3)
    assert torch.equal(drop(torch.ones(999), 0.5), first)
    assert not torch.equal(first, second)


def test_gradients_pass_where_values_did():
    values = torch.ones(50, requires_grad=True)
    dropped = drop(values, 0.4)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_and_everything_can_be_dropped(share: float):
    assert drop(torch.ones(5), share).tolist() == [1.0 - share] * 5
