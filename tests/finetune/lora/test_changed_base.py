"""A base is given back with its own bits, whatever an adapter started with, and the saved adapter fits that base."""

import json
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from finetune.lora.adapter_shape import Lora
from finetune.lora.changed_base import balanced, copy_endangered, save_as_difference, take_out
from finetune.lora.lora import attach_lora, base_is_given_back, changes_to_base
from tests.finetune.tiny_models import TINY_MODELS, VOCABULARY, tiny_gpt2, tiny_llama
from tokenizer_ext.embeddings.tables import separate_new_rows

IDS = torch.arange(30).view(2, 15)
OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_niter": {"init_lora_weights": "pissa_niter_2"},
    "pissa_rslora": {"init_lora_weights": "pissa", "use_rslora": True},
    "pissa_dora": {"init_lora_weights": "pissa", "use_dora": True},
    "pissa_of_many_ranks": {
        "init_lora_weights": "pissa",
        "rank_pattern": {"(c_fc|up_proj)": 3},
        "alpha_pattern": {"(c_attn|q_proj)": 5},
    },
    "biases": {"bias": "all"},
    "pissa_biases": {"init_lora_weights": "pissa", "bias": "lora_only"},
    "norms": {"modules_to_save": {"gpt2": ["ln_1"], "llama": ["input_layernorm"]}},
}


def _adapted(kind, name):
    """A model with a trained adapter, its weights before, and the logits that it has now."""
    model = TINY_MODELS[kind]()
    options = {key: value[kind] if key == "modules_to_save" else value for key, value in OPTIONS[name].items()}
    before = {key: one.clone() for key, one in model.state_dict().items()}
    adapted = attach_lora(model, Lora(rank=4, alpha=8.0, dropout=0.0, options=options))
    torch.manual_seed(1)
    with torch.no_grad():
        for one in model.parameters():
            if one.requires_grad:
                one.add_(torch.randn_like(one), alpha=0.1)
    return adapted, before, model(IDS).logits.detach()


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=[] if one == "gpt2" else pytest.mark.long) for one in TINY_MODELS]
)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_base_is_given_back_bit_by_bit_and_the_saved_adapter_fits_it(kind, name, tmp_path):
    adapted, before, logits = _adapted(kind, name)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    save_as_difference(tmp_path, changes_to_base(adapted))
    base = take_out(adapted, changes_to_base(adapted))
    assert base.state_dict().keys() == before.keys()
    for key, one in base.state_dict().items():
        assert torch.equal(one, before[key]), key
    again = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(again(IDS).logits, logits, rtol=1e-5, atol=2e-5)


def test_pissa_is_saved_as_a_lora_of_twice_the_rank_and_the_same_scale(tmp_path):
    adapted, _, _ = _adapted("llama", "pissa_rslora")
    adapted.save_pretrained(tmp_path)
    save_as_difference(tmp_path, changes_to_base(adapted))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (8, True)
    assert config["lora_alpha"] / 8**0.5 == pytest.approx(8.0 / 4**0.5)
    shapes = {one.shape for name, one in load_file(tmp_path / "adapter_model.safetensors").items() if "lora_A" in name}
    assert {shape[0] for shape in shapes} == {8}


def test_the_saved_difference_holds_no_larger_numbers_than_it_needs(tmp_path):
    adapted, _, _ = _adapted("llama", "pissa")
    layer = adapted.get_base_model().model.layers[0].mlp.up_proj
    start_a, start_b = changes_to_base(adapted).starts["model.layers.0.mlp.up_proj"]
    with torch.no_grad():  # as if training had hardly moved it
        layer.lora_A["default"].weight.copy_(start_a * 1.001)
        layer.lora_B["default"].weight.copy_(start_b)
    adapted.save_pretrained(tmp_path)
    save_as_difference(tmp_path, changes_to_base(adapted))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    largest = max(float(saved[name].abs().max()) for name in saved if "layers.0.mlp.up_proj" in name)
    assert largest < 0.1 * float(start_a.abs().max())


@pytest.mark.parametrize("shapes", [((8, 20), (30, 8)), ((8, 5), (30, 8)), ((8, 5), (3, 8))])
def test_balanced_matrices_have_the_shapes_and_the_product_of_the_given_ones(shapes):
    matrix_a, matrix_b = torch.randn(shapes[0]), torch.randn(shapes[1])
    new_a, new_b = balanced(matrix_a, matrix_b)
    assert (new_a.shape, new_b.shape) == shapes
    torch.testing.assert_close(new_b @ new_a, matrix_b @ matrix_a, rtol=1e-5, atol=1e-5)


def test_a_plain_adapter_is_saved_as_peft_saves_it(tmp_path):
    adapted, _, _ = _adapted("gpt2", "dora")
    adapted.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save_as_difference(tmp_path, changes_to_base(adapted))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", OPTIONS)
def test_a_base_is_given_back_where_disabling_the_adapter_says_what_the_base_says(name):
    adapted, before, _ = _adapted("gpt2", name)
    base = tiny_gpt2()
    base.load_state_dict(before)
    with torch.no_grad(), adapted.disable_adapter():
        same = torch.equal(adapted(IDS).logits, base(IDS).logits)
    assert base_is_given_back(adapted) == same


@pytest.mark.parametrize("new_tokens", [0, 5])
def test_a_base_whose_rows_train_is_not_given_back(new_tokens):
    model = tiny_llama()
    if new_tokens:
        separate_new_rows(model, VOCABULARY - new_tokens, new_tokens)
    adapted = attach_lora(model, Lora(rank=4, alpha=8.0, dropout=0.0))
    assert base_is_given_back(adapted) == (new_tokens == 0)


def test_only_what_may_change_is_copied():
    adapted, _, _ = _adapted("gpt2", "lora")
    assert copy_endangered(tiny_gpt2(), ["transformer.h.0.mlp.c_fc"], adapted.peft_config["default"]) == {}
    adapted, _, _ = _adapted("gpt2", "pissa")
    copies = copy_endangered(tiny_gpt2(), ["transformer.h.0.mlp.c_fc"], adapted.peft_config["default"])
    assert list(copies) == ["transformer.h.0.mlp.c_fc.weight"]
    assert len(changes_to_base(adapted).starts) == 8
