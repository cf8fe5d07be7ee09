"""peft's options pass through; what it would take and not do is refused in one line."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from configs import InputError, load_config
from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora
from finetune.lora.lora_options import FIXED, OURS, REFUSED, check_options
from finetune.lora.target_layers import linear_layer_names
from finetune.supervised.settings import SftSettings
from tests.finetune.tiny_models import TINY_MODELS, VOCABULARY, tiny_gpt2, tiny_llama


def _attach(model, rank=4, **options):
    return attach_lora(model, Lora(rank=rank, alpha=8.0, dropout=0.0, options=options))


def test_an_option_reaches_the_config_of_peft():
    pattern = {"q_proj": 2}
    adapted = _attach(tiny_llama(), use_rslora=True, use_dora=True, rank_pattern=pattern)
    config = adapted.peft_config["default"]
    assert (config.use_rslora, config.use_dora, config.rank_pattern) == (True, True, pattern)
    layer = adapted.get_base_model().model.layers[0].self_attn
    assert (layer.q_proj.r["default"], layer.k_proj.r["default"]) == (2, 4)
    assert layer.k_proj.scaling["default"] == 8.0 / 4**0.5


def test_every_field_of_peft_is_ours_fixed_refused_or_free():
    fields = set(LoraConfig.__dataclass_fields__)
    assert fields >= set(OURS) | set(REFUSED)
    assert len(fields - set(OURS) - FIXED - set(REFUSED)) > 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dore": True}, "use_dore: peft's LoraConfig has no such field, did you mean use_dora?"),
        ({"r": 8}, "r has a setting of its own, pass --lora_rank"),
        ({"target_modules": ["c_fc"]}, "target_modules has a setting of its own, pass --target_modules"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out follows from the model, leave it out"),
        ({"use_dora": "false"}, "use_dora is 'false', expected true or false"),
        (
            {"init_lora_weights": "eva"},
            "init_lora_weights is 'eva': without a pass over the data first, peft starts it",
        ),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights is 'lora_ga': without gradients taken first"),
        ({"init_lora_weights": "pisa"}, "peft cannot use them (Unknown initialization init_lora_weights='pisa')"),
        ({"init_lora_weights": ["pissa"]}, "peft cannot use them ("),
        ({"bias": "some"}, "peft cannot use them (Requested bias: some, is not implemented.)"),
        ({"trainable_token_indices": [1]}, "rows of tokens train as new tokens, or with --method full"),
        ({"layer_replication": [[0, 2]]}, "layer_replication cannot be used here"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save names lm_head, a table of tokens"),
        ({"modules_to_save": "wte"}, "modules_to_save names wte, a table of tokens"),
        ({"modules_to_save": ["ln_g"]}, "modules_to_save names ln_g, which GPT2LMHeadModel does not have"),
        ({"rank_pattern": {"c_fc": 33}}, "rank_pattern gives transformer.h.0.mlp.c_fc rank 33, expected 1 to 32"),
        (
            {"rank_pattern": {"q_proj": 2}},
            "rank_pattern names q_proj, which no adapted layer is called, expected some of ",
        ),
        ({"rank_pattern": "{c_fc:1}"}, "rank_pattern is '{c_fc:1}', expected a mapping such as {c_attn: 4}"),
        ({"exclude_modules": ["h.7.mlp.c_fc"]}, "exclude_modules names h.7.mlp.c_fc, which no adapted layer is called"),
        ({"use_qalora": True}, "use_qalora cannot be used here: peft does it for GPTQ bases alone"),
        ({"init_lora_weights": "orthogonal"}, "requires the LoRA rank to be even"),
        ({"init_lora_weights": "olora"}, "lora_options"),  # peft makes it for (out, in), which Conv1D is not
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_one_line(options, message):
    with pytest.raises(InputError) as refused:
        _attach(tiny_gpt2(), rank=3, **options)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith("lora_options")


def test_a_start_that_does_not_start_from_the_base_is_refused():
    with pytest.raises(InputError, match=r"lora_options: they change model\.layers\.0\.\S+ by 0\.\d of its largest"):
        _attach(tiny_llama(), kasa_config={})  # it cuts the smallest singular values out of the base


@pytest.mark.parametrize("kind", TINY_MODELS)
@pytest.mark.parametrize("start", ["gaussian", "orthogonal", "mica", "pissa", "pissa_niter_4"])
def test_every_start_says_what_the_base_says(kind, start):
    model = TINY_MODELS[kind]()
    ids = torch.arange(30).view(2, 15)
    before = model(ids).logits
    _attach(model, init_lora_weights=start)
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=2e-5)


def test_biases_of_the_head_are_no_part_of_an_adapter():
    model = tiny_gpt2()
    model.lm_head = torch.nn.Linear(32, VOCABULARY)
    with pytest.raises(InputError, match=r"bias is 'all', which the head has too: rows of tokens .* pass lora_only"):
        _attach(model, bias="all")
    trained = {name for name, one in _attach(model, bias="lora_only").named_parameters() if one.requires_grad}
    assert any(name.endswith("c_fc.base_layer.bias") for name in trained)
    assert not any("lm_head" in name for name in trained)


def test_no_option_is_nothing_to_check():
    check_options({}, tiny_gpt2(), linear_layer_names(tiny_gpt2()))


def _adapted_layers(adapted):
    return [name for name, layer in adapted.get_base_model().named_modules() if isinstance(layer, LoraLayer)]


@pytest.mark.parametrize(("given", "block"), [("0", 0), ("[0]", 0), ("1", 1), ("[1]", 1)])
def test_layers_to_transform_keeps_adapters_to_one_block_also_where_that_is_number_0(given, block):
    # Public report of peft (PR 3425): 0 was taken for "not given".
    settings = load_config(SftSettings, [f"--lora_options.layers_to_transform={given}", "--lora_dropout=0"])
    assert settings.lora is not None and settings.lora.dropout == 0
    names = _adapted_layers(attach_lora(tiny_gpt2(), replace(settings.lora, rank=4)))
    assert len(names) == 4 and all(name.startswith(f"transformer.h.{block}.") for name in names)


@pytest.mark.parametrize("name", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_for_one_layer_changes_that_layer_alone(name):
    adapted = _attach(tiny_gpt2(), **{name: {"h.0.attn.c_attn": 2}})
    scales = {
        layer: (part.r["default"], part.scaling["default"])
        for layer, part in adapted.get_base_model().named_modules()
        if isinstance(part, LoraLayer)
    }
    changed = scales.pop("transformer.h.0.attn.c_attn")
    assert len(set(scales.values())) == 1 and changed not in scales.values()


def test_excluded_layers_have_no_adapter():
    names = _adapted_layers(_attach(tiny_gpt2(), exclude_modules=["c_fc"]))
    assert len(names) == 6 and not any(name.endswith("c_fc") for name in names)


@pytest.mark.parametrize("blocks", [2, [0, 2], []])
def test_a_block_that_is_not_there_is_refused(blocks):
    with pytest.raises(InputError, match=r"layers_to_transform: found .*, expected numbers of blocks from 0 to 1$"):
        _attach(tiny_gpt2(), layers_to_transform=blocks)
