import pytest
import torch

from scratch_models.rungs.averaging import average_by_loop, average_by_product, average_by_softmax


@pytest.mark.parametrize("average", [average_by_product, average_by_softmax])
def test_all_three_ways_give_the_same_and_so_do_their_gradients(average) -> None:
    generator = torch.Generator().manual_seed(0)
    stream = torch.randn(3, 17, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(3, 17, 5, dtype=torch.float64, generator=generator)
    expected = average_by_loop(stream)
    torch.testing.assert_close(average(stream), expected, rtol=0, atol=1e-14)
    gradients = [torch.autograd.grad((means * weight).sum(), stream)[0] for means in (average(stream), expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-14)


def test_the_mean_is_that_of_the_running_sum() -> None:
    stream = torch.randn(2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = torch.arange(1, 10, dtype=torch.float64)[:, None]
    torch.testing.assert_close(average_by_loop(stream), stream.cumsum(dim=1) / counts, rtol=0, atol=1e-14)
