import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import InputError
from scratch_models.rungs.attention_heads import Head, Heads
from scratch_models.rungs.averaging import average_by_loop
from scratch_models.rungs.gpt import CausalSelfAttention, GPTConfig
from scratch_models.rungs.one_layer import OneLayerConfig, OneLayerModel

WIDTH = 24


def random_stream() -> Tensor:
    return torch.randn(2, 11, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def seeded(module: nn.Module) -> nn.Module:
    """The module in double precision with weights of a trained one's size."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


@torch.no_grad()
def test_a_head_is_the_scaled_dot_product_attention_of_torch() -> None:
    head, stream = Head(WIDTH, 8), random_stream()
    seeded(head)
    expected = F.scaled_dot_product_attention(head.query(stream), head.key(stream), head.value(stream), is_causal=True)
    torch.testing.assert_close(head(stream), expected, rtol=0, atol=1e-12)
    weights = head.weights(stream)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 11, dtype=torch.float64))
    assert torch.equal(weights, weights.tril())


@torch.no_grad()
def test_a_head_whose_queries_are_zero_takes_the_mean_of_the_past() -> None:
    head, stream = Head(WIDTH, WIDTH), random_stream()
    seeded(head)
    head.query.weight.zero_()
    head.value.weight.copy_(torch.eye(WIDTH))
    torch.testing.assert_close(head(stream), average_by_loop(stream), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_several_heads_are_the_attention_of_the_gpt(heads: int) -> None:
    ours, stream = Heads(WIDTH, heads), random_stream()
    seeded(ours)
    config = GPTConfig(vocabulary_size=5, block_size=16, layers=1, heads=heads, width=WIDTH)
    theirs = CausalSelfAttention(config).double()
    parts = [[getattr(head, name).weight for head in ours.heads] for name in ("query", "key", "value")]
    theirs.query_key_value.weight.copy_(torch.cat([weight for part in parts for weight in part]))
    theirs.query_key_value.bias.zero_()
    theirs.projection.load_state_dict(ours.projection.state_dict())
    torch.testing.assert_close(ours(stream), theirs(stream), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("mixing", ["average", "attention"])
def test_a_model_of_one_layer_never_looks_ahead(mixing) -> None:
    torch.manual_seed(0)
    model = OneLayerModel(OneLayerConfig(vocabulary_size=30, block_size=12, width=16, mixing=mixing, heads=2))
    ids = torch.randint(30, (2, 12), generator=torch.Generator().manual_seed(1))
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 30
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=1e-6)
    assert (before[:, 5:] != after[:, 5:]).any(dim=-1).all()


def test_what_does_not_fit_is_refused() -> None:
    shape = {"vocabulary_size": 5, "block_size": 4, "mixing": "attention"}
    with pytest.raises(InputError, match="width 16 is not a multiple of heads 3"):
        OneLayerConfig(**shape, width=16, heads=3)  # type: ignore[arg-type]
    model = OneLayerModel(OneLayerConfig(**shape, width=16))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="5 tokens do not fit the model's 4 positions"):
        model(torch.zeros(1, 5, dtype=torch.long))
