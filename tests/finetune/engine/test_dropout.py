"""Fast dropout: the asked share, an exact expectation, and masks that the seed decides."""

import pytest
import torch

from finetune.engine.dropout import PIECE, MaskSource, drop


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


def test_the_number_of_threads_changes_no_mask(monkeypatch: pytest.MonkeyPatch):
    shapes = [torch.Size((200_000,)), torch.Size((7,)), torch.Size((3, 50_001))]
    drawn = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        source = MaskSource(0.3, seed=5)
        drawn.append([source.draw(shape) for shape in shapes])
    for masks in drawn[1:]:
        assert all(torch.equal(found, expected) for found, expected in zip(masks, drawn[0], strict=True))


def test_no_piece_of_a_mask_is_another_and_no_seed_draws_anothers():
    pieces = [
        one for seed in (0, 1, 2**62) for one in MaskSource(0.5, seed).draw(torch.Size((5 * PIECE,))).split(PIECE)
    ]
    for number, piece in enumerate(pieces):
        for other in pieces[:number]:
            assert abs(float((piece == other).float().mean()) - 0.5) < 5 * 0.5 / PIECE**0.5


def test_gradients_pass_where_values_did():
    values = torch.ones(50, requires_grad=True)
    dropped = drop(values, 0.4)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_and_everything_can_be_dropped(share: float):
    assert drop(torch.ones(5), share).tolist() == [1.0 - share] * 5
