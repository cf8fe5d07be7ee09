"""What is quantised is bitsandbytes' own numbers, stays a base that is known by its hash, and goes back to its bits."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from configs import InputError
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.held_weights.packed_matrices import packed, rounded
from tokenizer_ext.held_weights.quantised_layers import (
    held_bits,
    put_originals_back,
    quantise,
    quantised_layers,
    round_blocks,
)
from tokenizer_ext.held_weights.stored_layers import hold_as_stored

functional = pytest.importorskip("bitsandbytes").functional
CPU = torch.device("cpu")
IDS = torch.arange(24).view(2, 12) * 5 % 120


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=120,
    )
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(tmp_path)
    return tmp_path


def _read(folder, dtype=torch.bfloat16):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def _quantised(folder, bits):
    model = _read(folder)
    quantise(model, bits, folder, CPU)
    hold_as_stored(model)
    return model


def test_four_bits_are_the_nf4_of_qlora_with_quantised_scales():
    weight = torch.randn(64, 128)
    numbers, state = packed(weight, 4)
    theirs, their_state = functional.quantize_nf4(weight, blocksize=64, compress_statistics=True)
    assert torch.equal(numbers, theirs) and (state.quant_type, state.blocksize, state.nested) == ("nf4", 64, True)
    assert torch.equal(rounded(weight, 4, torch.float32), functional.dequantize_nf4(theirs, their_state))


@pytest.mark.parametrize(("bits", "most"), [(8, 0.02), (4, 0.12)])
def test_a_matrix_is_off_by_what_so_many_bits_cost(bits, most):
    weight = torch.randn(128, 256)
    assert 0 < (rounded(weight, bits, torch.float32) - weight).norm() / weight.norm() < most


@pytest.mark.parametrize("bits", [8, 4])
def test_the_model_says_what_it_says_with_the_rounded_matrices(folder, bits):
    plain = _read(folder, torch.float32)
    round_blocks(plain, bits)
    model = _quantised(folder, bits)
    torch.testing.assert_close(model(IDS).logits, plain(IDS).logits, rtol=1e-5, atol=1e-5)
    assert held_bits(model) == bits and len(quantised_layers(model)) == 14
    assert model.lm_head.weight.dtype == model.get_input_embeddings().weight.dtype == torch.bfloat16


@pytest.mark.parametrize("bits", [8, 4])
def test_what_flows_back_goes_through_the_rounded_matrices(folder, bits):
    plain, gradients = _read(folder, torch.float32), []
    round_blocks(plain, bits)
    for model in (plain, _quantised(folder, bits)):
        vectors = model.get_input_embeddings()(IDS).detach().requires_grad_(True)
        model(inputs_embeds=vectors).logits.square().sum().backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_its_hash_is_that_of_the_base_and_it_can_be_put_back(folder):
    base, model = _read(folder), _quantised(folder, 4)
    assert hash_weights(model, 120) == hash_weights(base, 120)
    put_originals_back(model)
    assert held_bits(model) == 16
    assert all(
        torch.equal(found, base.state_dict()[name]) for name, found in model.to(torch.bfloat16).state_dict().items()
    )


def test_four_bits_take_a_quarter_of_half_precision_and_a_little_for_scales(folder):
    bytes_of = sum(layer.weight.nbytes for layer in quantised_layers(_quantised(folder, 4)))
    numbers = sum(
        module.weight.numel() for module in _read(folder).model.layers.modules() if isinstance(module, nn.Linear)
    )
    assert bytes_of == numbers // 2


def test_a_matrix_that_is_not_finite_is_named_with_its_file(folder):
    model = _read(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = torch.nan
    model.save_pretrained(folder)
    with pytest.raises(InputError, match=r"model.safetensors: model.layers.1.mlp.up_proj.weight holds NaN"):
        _quantised(folder, 4)


def test_a_matrix_that_the_model_holds_in_another_order_than_its_file_is_refused(folder):
    model = _read(folder)
    query = model.model.layers[0].self_attn.q_proj.weight
    query.data = query.view(4, 2, 8, 64).transpose(1, 2).reshape(64, 64)  # as the layouts of rotary positions differ
    with pytest.raises(InputError, match=r"q_proj.weight in another order"):
        quantise(model, 4, folder, CPU)


def test_matrices_of_gpt_2_are_refused_by_name(tmp_path):
    model = AutoModelForCausalLM.from_config(GPT2Config(n_embd=32, n_head=4, n_layer=1, vocab_size=120))
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"c_attn of GPT2LMHeadModel is a Conv1D"):
        quantise(model, 4, tmp_path, CPU)
