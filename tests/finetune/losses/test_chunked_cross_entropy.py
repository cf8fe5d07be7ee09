"""The chunked loss: torch's own on the concatenated logits, with its gradients, and without its memory."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from finetune.losses import chunked_cross_entropy
from finetune.losses.chunked_cross_entropy import Segment, summed_cross_entropy
from tests.finetune.largest_tensor import LargestTensor

TOKENS, WIDTH = 23, 6
ROWS = (31, 5, 3)  # old, new, padding


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(chunked_cross_entropy, "BLOCK_ROWS", 12)
    monkeypatch.setattr(chunked_cross_entropy, "CACHED_LOGITS", 80)


def make(dtype: torch.dtype = torch.float64, *, bias: bool = True, trained: bool = True, scale: float = 1.0):
    """Hidden states, targets, and three segments."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, requires_grad: bool = trained) -> Tensor:
        numbers = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
        return numbers.to(dtype).requires_grad_(requires_grad)

    segments = [(draw(rows, WIDTH), draw(rows) if bias else None) for rows in ROWS]
    return draw(TOKENS, WIDTH), torch.randint(sum(ROWS), (TOKENS,), generator=generator), segments


def expected_nats(hidden: Tensor, targets: Tensor, segments: list[Segment], weights: Tensor | float = 1.0) -> Tensor:
    logits = torch.cat([F.linear(hidden, weight, bias) for weight, bias in segments], dim=-1)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum()


def leaves(hidden: Tensor, segments: list[Segment]) -> list[Tensor]:
    return [hidden, *(part for segment in segments for part in segment if part is not None)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk_tokens", [1, 8, None])
def test_with_weights_loss_and_gradients_are_those_of_the_weighted_sum(dtype, chunk_tokens):
    hidden, targets, segments = make(dtype)
    weights = torch.tensor([0.0, 0.5, 1.0, 0.125]).repeat(6)[:TOKENS]
    ours = summed_cross_entropy(hidden, targets, segments, chunk_tokens, weights)
    exact = [tensor.detach().double().requires_grad_() for tensor in leaves(hidden, segments)]
    theirs = expected_nats(exact[0], targets, list(zip(exact[1::2], exact[2::2], strict=True)), weights)
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4 * torch.finfo(dtype).eps}[dtype]
    torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=0)
    found, expected = (
        torch.autograd.grad(ours * 0.37, leaves(hidden, segments)),
        torch.autograd.grad(theirs * 0.37, exact),
    )
    for ours_, theirs_ in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_.double(), theirs_, rtol=tolerance, atol=tolerance)
    assert summed_cross_entropy(hidden, targets, segments, chunk_tokens, torch.ones(TOKENS)) == summed_cross_entropy(
        hidden, targets, segments, chunk_tokens
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 8, 23, 100, None])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_loss_and_gradients_are_torchs_on_concatenated_logits(dtype, tolerance: float, chunk_tokens, bias: bool):
    hidden, targets, segments = make(dtype, bias=bias)
    ours = summed_cross_entropy(hidden, targets, segments, chunk_tokens)
    theirs = expected_nats(hidden, targets, segments)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0)
    places = leaves(hidden, segments)
    # Scaled, as the training loop divides by the supervised tokens of all processes.
    found, expected = (torch.autograd.grad(nats * 0.37, places) for nats in (ours, theirs))
    for ours_, theirs_ in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=tolerance, atol=tolerance)


def test_logits_of_any_size_give_finite_exact_nats():
    hidden, targets, segments = make(torch.float32, scale=200.0)
    ours = summed_cross_entropy(hidden, targets, segments, 8)
    assert 1e5 < ours.item() < float("inf")
    torch.testing.assert_close(ours, expected_nats(hidden, targets, segments), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_give_what_their_own_rounding_allows(dtype):
    hidden, targets, segments = make(dtype)
    ours = summed_cross_entropy(hidden, targets, segments, 8)
    assert ours.dtype == torch.float32
    whole = [tensor.detach().float().requires_grad_() for tensor in leaves(hidden, segments)]
    exact = expected_nats(whole[0], targets, list(zip(whole[1::2], whole[2::2], strict=True)))
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(ours, exact, rtol=rounding / 4, atol=0)  # errors of single logits cancel
    found, expected = torch.autograd.grad(ours, leaves(hidden, segments)), torch.autograd.grad(exact, whole)
    for ours_, exact_ in zip(found, expected, strict=True):
        assert ours_.dtype == dtype
        torch.testing.assert_close(ours_.float(), exact_, rtol=4 * rounding, atol=4 * rounding)


def test_under_autocast_it_multiplies_in_half_precision_as_a_linear_layer_does():
    hidden, targets, segments = make(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (loss(hidden, targets, segments) for loss in (summed_cross_entropy, expected_nats))
    assert ours.dtype == torch.float32
    assert ours.item() != summed_cross_entropy(hidden, targets, segments).item()
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=0)
    places = leaves(hidden, segments)
    for found, expected in zip(torch.autograd.grad(ours, places), torch.autograd.grad(theirs, places), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=4e-2)


def test_only_what_requires_a_gradient_gets_one():
    hidden, targets, segments = make(trained=False)
    weight = segments[1][0].requires_grad_()
    summed_cross_entropy(hidden, targets, segments, 8).backward()
    assert [tensor.grad is not None for tensor in leaves(hidden, segments)] == [False] * 3 + [True] + [False] * 3
    again = weight.detach().requires_grad_()
    expected_nats(hidden, targets, [segments[0], (again, segments[1][1]), segments[2]]).backward()
    torch.testing.assert_close(weight.grad, again.grad)


def test_without_gradients_the_nats_are_the_same_and_hang_on_nothing():
    hidden, targets, segments = make()
    with torch.no_grad():
        nats = summed_cross_entropy(hidden, targets, segments, 8)
    assert not nats.requires_grad
    assert nats == summed_cross_entropy(hidden, targets, segments, 8)


def test_no_token_costs_nothing_and_moves_nothing():
    hidden, targets, segments = make()
    nats = summed_cross_entropy(hidden[:0], targets[:0], segments)
    nats.backward()
    assert nats == 0
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in leaves(hidden, segments))


def test_a_second_pass_back_through_the_same_graph_is_refused():
    nats = summed_cross_entropy(*make())
    nats.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        nats.backward()


@pytest.mark.parametrize("target", [-100, -1, sum(ROWS)])
def test_a_target_that_is_no_id_is_refused(target: int):
    hidden, targets, segments = make()
    targets[3] = target
    with pytest.raises(RuntimeError, match="out of bounds"):
        summed_cross_entropy(hidden, targets, segments)


@pytest.mark.parametrize(("tokens", "chunk_tokens"), [(10, 10), (64, 64), (100, 64), (252, 126), (1500, 500)])
def test_chunks_are_even_of_at_most_640_tokens_and_two_at_least_unless_tokens_are_few(tokens: int, chunk_tokens: int):
    hidden, weight = torch.randn(tokens, 2), torch.randn(1000, 2)
    with LargestTensor(hidden, weight) as largest:
        summed_cross_entropy(hidden, torch.zeros(tokens, dtype=torch.int64), [(weight, None)])
    assert largest.elements == chunk_tokens * 1000


def test_a_chunk_of_a_large_vocabulary_has_fewer_tokens(monkeypatch):
    monkeypatch.setattr(chunked_cross_entropy, "MOST_CHUNK_LOGITS", 100 * 1000)
    hidden, weight = torch.randn(400, 2), torch.randn(1000, 2)
    with LargestTensor(hidden, weight) as largest:
        summed_cross_entropy(hidden, torch.zeros(400, dtype=torch.int64), [(weight, None)])
    assert largest.elements == 100 * 1000


@pytest.mark.parametrize("autocast", [False, True])
def test_nothing_larger_than_the_logits_of_a_chunk_is_made(autocast: bool):
    generator = torch.Generator().manual_seed(0)
    rows, width, tokens, chunk_tokens = 3000, 64, 200, 5
    hidden = torch.randn(tokens, width, generator=generator).requires_grad_()
    old, new = torch.randn(rows, width, generator=generator), torch.randn(10, width, generator=generator)
    targets = torch.randint(rows + 10, (tokens,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), LargestTensor(hidden, old, new) as largest:
        summed_cross_entropy(hidden, targets, [(old, None), (new.requires_grad_(), None)], chunk_tokens).backward()
    # A CPU compiles products of half precision for each number of tokens, so there it is always a multiple of 64.
    assert largest.elements == (64 if autocast else chunk_tokens) * (rows + 10)


def test_tokens_that_fill_up_a_chunk_of_half_precision_count_for_nothing():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*shape, generator=generator) for shape in ((3, 16), (50, 16)))
    bias, targets = torch.randn(50, generator=generator), torch.tensor([4, 0, 49])
    found = []
    for autocast in (False, True):
        given = [one.clone().requires_grad_() for one in (hidden, weight, bias)]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            nats = summed_cross_entropy(given[0], targets, [(given[1], given[2])])
        nats.backward()
        found.append([nats.detach(), *(one.grad for one in given)])
    for exact, half in zip(*found, strict=True):
        torch.testing.assert_close(half, exact, atol=0.05, rtol=0.02)


def test_a_large_vocabulary_costs_no_precision():
    """Torch's own softmax on a CPU adds up a row one number after the other, and is 1e-5 of a nat off here."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(8, 16, generator=generator), torch.randn(150_000, 16, generator=generator)
    targets = torch.randint(len(weight), (8,), generator=generator)
    logits = (hidden @ weight.T).double()
    exact = F.cross_entropy(logits, targets)
    learned = hidden.clone().requires_grad_()
    ours = summed_cross_entropy(learned, targets, [(weight, None)]) / 8
    assert abs(ours.double() - exact) < 1e-6
    ours.backward()
    expected = (F.one_hot(targets, len(weight)) - logits.softmax(dim=1)).neg() @ weight.double() / 8
    torch.testing.assert_close(learned.grad, expected, atol=1e-6, rtol=1e-5, check_dtype=False)
