"""LoRA: nothing changes at the start, only adapters and new rows train, a rank that cannot work is refused."""

import pytest
import torch

from configs import InputError
from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora
from finetune.lora.target_layers import linear_layer_names
from tests.finetune.tiny_models import TINY_MODELS, VOCABULARY, tiny_gpt2, tiny_llama
from tokenizer_ext.embeddings.tables import new_row_parameters, separate_new_rows

INPUT_IDS = torch.arange(30).view(2, 15)


@pytest.fixture(params=TINY_MODELS)
def model(request):
    return TINY_MODELS[request.param]()


def _lora(rank=4):
    return Lora(rank=rank, alpha=8.0, dropout=0.0)


def test_an_adapter_changes_no_bit_of_the_logits_before_it_is_trained(model):
    before = model(INPUT_IDS).logits
    attach_lora(model, _lora())
    assert torch.equal(model(INPUT_IDS).logits, before)


def test_one_step_of_the_adapter_changes_the_logits(model):
    before = model(INPUT_IDS).logits
    attach_lora(model, _lora())
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1.0)
    for _ in range(2):  # the first moves B away from zero, the second moves A too
        model(INPUT_IDS, labels=INPUT_IDS).loss.backward()
        optimizer.step()
    assert (model(INPUT_IDS).logits - before).abs().max() > 1e-3
    assert all(one.grad.any() for name, one in model.named_parameters() if "lora_" in name)


@pytest.mark.parametrize("new_tokens", [0, 5])
def test_only_the_adapter_and_the_new_rows_train(model, new_tokens):
    if new_tokens:
        separate_new_rows(model, VOCABULARY - new_tokens, new_tokens)
    rows = set(new_row_parameters(model))
    attach_lora(model, _lora())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert bool(rows) == bool(new_tokens)
    assert trained == rows | {name for name, _ in model.named_parameters() if ".lora_A." in name or ".lora_B." in name}


def test_the_adapted_layers_are_those_of_the_blocks_and_not_the_head():
    of_gpt2 = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert linear_layer_names(tiny_gpt2()) == [
        f"transformer.h.{block}.{name}" for block in range(2) for name in of_gpt2
    ]
    of_llama = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    assert linear_layer_names(tiny_llama()) == [
        f"model.layers.{block}.{name}" for block in range(2) for name in of_llama
    ]


@pytest.mark.filterwarnings("error:fan_in_fan_out")  # peft would correct it, with a warning for every layer
def test_conv1d_is_transposed_by_the_adapter_and_linear_is_not():
    assert attach_lora(tiny_gpt2(), _lora()).peft_config["default"].fan_in_fan_out
    assert not attach_lora(tiny_llama(), _lora()).peft_config["default"].fan_in_fan_out


def test_the_scale_is_alpha_over_rank():
    model = tiny_llama()
    adapted = attach_lora(model, Lora(rank=4, alpha=10.0, dropout=0.0))
    layer = model.get_submodule("model.layers.0.self_attn.q_proj")
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    hidden = torch.randn(3, 32)
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = hidden @ (layer.base_layer.weight + 10.0 / 4 * product).T
    torch.testing.assert_close(layer(hidden), expected, rtol=1e-4, atol=1e-4)
    assert adapted.get_base_model() is model


@pytest.mark.parametrize("rank", [0, -1, 17, 1000])
def test_a_rank_that_no_layer_can_use_is_refused(rank):
    message = f"lora_rank: found {rank}, expected 1 to 16, the smaller side of the smallest layer"
    with pytest.raises(InputError, match=message):
        attach_lora(tiny_llama(), _lora(rank))  # two key-value heads of 8 make a layer of 16


def test_the_largest_rank_is_the_smaller_side_of_the_smallest_layer():
    attach_lora(tiny_llama(), _lora(16))


def test_a_model_without_linear_layers_in_its_blocks_is_refused():
    model = tiny_gpt2(n_layer=0)
    with pytest.raises(InputError, match="GPT2LMHeadModel: no linear layers in its blocks"):
        attach_lora(model, _lora())
