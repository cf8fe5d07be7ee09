"""Which layers adapters go on: all linear ones of the blocks, or those that a name means; never a table of tokens."""

import pytest

from configs import InputError
from finetune.lora.target_layers import choose_layers, linear_layer_names
from tests.finetune.tiny_models import TINY_MODELS, tiny_gpt2, tiny_llama


@pytest.mark.parametrize("kind", TINY_MODELS)
@pytest.mark.parametrize("wanted", [None, "all-linear"])
def test_without_a_choice_it_is_every_linear_layer_of_the_blocks(kind, wanted):
    model = TINY_MODELS[kind]()
    assert choose_layers(model, wanted) == linear_layer_names(model)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("c_attn", ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]),
        (["mlp.c_fc"], ["transformer.h.0.mlp.c_fc", "transformer.h.1.mlp.c_fc"]),
        (["transformer.h.1.mlp.c_fc"], ["transformer.h.1.mlp.c_fc"]),
        (r"transformer\.h\.1\..*c_proj", ["transformer.h.1.attn.c_proj", "transformer.h.1.mlp.c_proj"]),
        (
            ["c_fc", "c_attn", "h.0.attn.c_attn"],
            [f"transformer.h.{n}.{one}" for n in "01" for one in ("attn.c_attn", "mlp.c_fc")],
        ),
    ],
)
def test_layers_are_chosen_by_the_end_of_their_names_or_by_a_pattern_in_the_order_of_the_model(wanted, found):
    assert choose_layers(tiny_gpt2(), wanted) == found


@pytest.mark.parametrize("wanted", ["q_proj", ["c_attn", "q_proj"], "attn", "_attn", "lm_head", "wte", ".*lm_head", ""])
def test_a_name_that_means_no_layer_is_refused_with_the_real_names(wanted):
    message = (
        r"target_modules: \S* means no linear layer in the blocks of GPT2LMHeadModel, "
        r"expected some of attn\.c_attn, attn\.c_proj, mlp\.c_fc, mlp\.c_proj$"
    )
    with pytest.raises(InputError, match=message):
        choose_layers(tiny_gpt2(), wanted)


def test_no_name_at_all_and_a_broken_pattern_are_refused():
    with pytest.raises(InputError, match=r"target_modules: names nothing, expected some of self_attn\.q_proj, "):
        choose_layers(tiny_llama(), [])
    with pytest.raises(InputError, match=r"target_modules: q_proj\( is no regular expression"):
        choose_layers(tiny_llama(), "q_proj(")
