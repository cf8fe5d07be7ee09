"""Attention over conversations that lie end to end: torch's own, conversation by conversation, with its gradients."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from finetune.engine import block_attention
from finetune.engine.packed_attention import Conversations, attend
from tests.finetune.engine.allocated import most_allocated

LENGTHS, WIDTH = [3, 1, 6], 4


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(block_attention, "BLOCK_QUERIES", 2)


def make(
    heads: int, key_heads: int, dtype: torch.dtype = torch.float64, tokens: int = sum(LENGTHS), width: int = WIDTH
):
    torch.manual_seed(0)
    sizes = (heads, key_heads, key_heads)
    return [torch.randn(1, size, tokens, width, dtype=dtype, requires_grad=True) for size in sizes]


def packed(query, key, value, *, lengths=LENGTHS, window=None, **options):
    return attend(nn.Module(), query, key, value, conversations(lengths, window), **options)[0]


def conversations(lengths, window=None):
    return Conversations(lengths, torch.tensor([0, *lengths]).cumsum(0).int(), window)


def by_conversation(inputs, mask=None):
    parts = zip(*(one.split(LENGTHS, dim=2) for one in inputs), strict=True)
    given = {"is_causal": True} if mask is None else {}
    outs = [
        F.scaled_dot_product_attention(
            q, k, v, enable_gqa=True, attn_mask=None if mask is None else mask[: q.shape[2], : q.shape[2]], **given
        )
        for q, k, v in parts
    ]
    return torch.cat(outs, dim=2).transpose(1, 2)


@pytest.mark.parametrize("longest_kept", [1, 512])
@pytest.mark.parametrize(("heads", "key_heads"), [(2, 2), (4, 2), (4, 1)])
def test_each_conversation_sees_itself_alone(heads: int, key_heads: int, longest_kept: int, monkeypatch):
    monkeypatch.setattr(block_attention, "LONGEST_KEPT", longest_kept)
    inputs = make(heads, key_heads)
    ours, theirs = packed(*inputs), by_conversation(inputs)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("prefixes", [[0, 2, 2], [0, 3, 1], [0, 0, 1]])
@pytest.mark.parametrize("longest_kept", [1, 512])
def test_conversations_go_on_from_what_an_earlier_one_begins_with(prefixes, window, longest_kept, monkeypatch):
    monkeypatch.setattr(block_attention, "LONGEST_KEPT", longest_kept)
    inputs = make(4, 2)
    query, key, value = inputs
    of_all = conversations(LENGTHS, window)
    ours = attend(nn.Module(), query, key, value, Conversations(LENGTHS, of_all.starts, window, prefixes))[0]
    places, newest, parts = torch.arange(sum(LENGTHS)).split(LENGTHS), 0, []
    for number, (own, prefix) in enumerate(zip(places, prefixes, strict=True)):
        newest = newest if prefix else number
        seen = torch.cat([places[newest][:prefix], own])
        mask = torch.ones(len(own), len(seen), dtype=torch.bool).tril(prefix).triu(prefix + 1 - (window or len(seen)))
        of_keys = key[:, :, seen], value[:, :, seen]
        parts.append(F.scaled_dot_product_attention(query[:, :, own], *of_keys, enable_gqa=True, attn_mask=mask))
    theirs = torch.cat(parts, dim=2).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_sliding_window_hides_what_lies_further_back():
    inputs = make(4, 2)
    seen = torch.ones(6, 6, dtype=torch.bool).tril().triu(-2)
    torch.testing.assert_close(packed(*inputs, window=3), by_conversation(inputs, mask=seen))


@pytest.mark.parametrize("longest_kept", [1, 512])
@pytest.mark.parametrize("key_heads", [1, 2])
def test_gradients_under_dropout_are_those_of_the_masks_that_were_drawn(key_heads: int, longest_kept: int, monkeypatch):
    monkeypatch.setattr(block_attention, "LONGEST_KEPT", longest_kept)

    def attended(*inputs):
        torch.manual_seed(1)
        return packed(*inputs, lengths=[1, 3], dropout=0.3)

    assert torch.autograd.gradcheck(attended, make(2, key_heads, tokens=4, width=2))


def test_dropout_keeps_the_expectation():
    drawn, inputs = 3000, [one.detach() for one in make(2, 2)]
    many = [one.repeat(1, drawn, 1, 1) for one in inputs]  # as heads, which draw masks of their own
    mean = packed(*many, dropout=0.2).unflatten(2, (drawn, -1)).mean(dim=2)
    torch.testing.assert_close(mean, packed(*inputs), atol=0.05, rtol=0.0)


def test_half_precision_gives_what_its_rounding_allows():
    inputs = make(4, 2, torch.bfloat16)
    exact = by_conversation([one.float() for one in inputs])
    assert packed(*inputs).dtype == torch.bfloat16
    torch.testing.assert_close(packed(*inputs).float(), exact, atol=2e-2, rtol=2e-2)


def test_what_is_kept_of_long_conversations_grows_with_their_tokens(monkeypatch):
    monkeypatch.setattr(block_attention, "LONGEST_KEPT", 8)
    monkeypatch.setattr(block_attention, "BLOCK_QUERIES", 32)
    elements = []
    for tokens in (100, 200):
        inputs = [torch.randn(1, 2, tokens, WIDTH, requires_grad=True) for _ in range(3)]
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            attend(nn.Module(), inputs[0], inputs[1], inputs[2], conversations([tokens]), dropout=0.1)
        elements.append(sum(sizes))
    assert elements[1] == 2 * elements[0]


def test_what_it_does_not_know_is_refused():
    with pytest.raises(NotImplementedError, match="softcap"):
        packed(*make(2, 2), softcap=30.0)


def test_what_a_long_row_takes_grows_with_its_tokens_and_not_their_square(monkeypatch):
    monkeypatch.setattr(block_attention, "BLOCK_QUERIES", 96)

    def step(tokens: int) -> None:
        query, key, value = (torch.randn(8, tokens, 8, requires_grad=True) for _ in range(3))
        block_attention.attend_in_blocks(query, key, value, [tokens], 0.3).sum().backward()

    short, long = (most_allocated(partial(step, tokens)) for tokens in (1024, 4096))
    assert 0 < long < 4.5 * short
