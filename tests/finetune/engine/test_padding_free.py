"""Hidden states of packed rows: filled up where that spares a CPU work, and found out where packing is not exact."""

import pytest
import torch
from transformers import FalconMambaConfig, FalconMambaModel

from finetune.engine.packed_attention import use_packed_attention
from finetune.engine.padding_free import MULTIPLE_IN_HALF, hidden_states, packing_is_exact
from tests.finetune.tiny_models import TINY_MODELS, VOCABULARY, tiny_llama

IDS = torch.arange(12).unsqueeze(0)
POSITIONS = torch.cat([torch.arange(5), torch.arange(7)]).unsqueeze(0)


def _read_shapes(model):
    """What the model is given, noted at every call."""
    shapes = []
    model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("rows", "filled"), [(1, 64), (3, 64), (4, 16), (64, 12), (128, 12)])
def test_in_half_precision_on_a_cpu_a_multiple_of_tokens_is_read_and_the_rest_given_back(rows, filled, packed):
    model = tiny_llama()
    shapes = _read_shapes(model)
    use_packed_attention(model)
    positions = POSITIONS.expand(rows, -1) if packed else None
    with torch.autocast("cpu", torch.bfloat16):
        found = hidden_states(model, IDS.expand(rows, -1), positions)
    exact = hidden_states(model, IDS.expand(rows, -1), positions)
    assert shapes == [(rows, filled), (rows, 12)] and rows * filled % MULTIPLE_IN_HALF == 0
    assert found.shape == exact.shape == (rows, 12, 32)
    assert float((found.float() - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize("is_ours", [False, True])
@pytest.mark.parametrize("family", TINY_MODELS)
def test_packing_is_exact_for_causal_models_that_take_positions(family, is_ours):
    model = TINY_MODELS[family]().train()
    if is_ours:
        use_packed_attention(model)
    assert packing_is_exact(model) and model.training


def test_packing_is_not_exact_for_a_recurrence():
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "use_mambapy": False}
    assert not packing_is_exact(FalconMambaModel(FalconMambaConfig(vocab_size=VOCABULARY, **shape)))
