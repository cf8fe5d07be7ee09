"""A base with quantised weights is refused by its method, before anything loads, with the one to take instead."""

import json

import pytest

from configs import InputError
from tests.tokenizer_ext.families import write_family
from tests.tokenizer_ext.tiny_models import tiny_gpt2
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

METHODS = {
    "GPTQ, 4 bits": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "AWQ, 4 bits": {"quant_method": "awq", "bits": 4, "zero_point": True},
    "bitsandbytes, 4 bits": {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False},
    "bitsandbytes, 8 bits": {"quant_method": "bitsandbytes", "_load_in_8bit": True, "load_in_8bit": True},
    "FP8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "MXFP4": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    "some_new_method": {"quant_method": "some_new_method"},
}


@pytest.mark.parametrize("said", METHODS)
def test_it_is_named_with_the_unquantised_one_to_take(said, prose, tmp_path):
    folder = write_family("gpt2", tmp_path / "Tiny-GPT2-GPTQ-Int4", [prose])
    tiny_gpt2(400).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": METHODS[said]}))
    for load in (load_tokenizer, load_model, lambda name: extend_vocabulary(name, corpus=[prose], new_tokens=10)):
        with pytest.raises(InputError) as refused:
            load(str(folder))
        assert f"its weights are quantised ({said}), expected plain ones" in str(refused.value)
        assert str(refused.value).endswith(f"such as {tmp_path}/Tiny-GPT2")
        assert "\n" not in str(refused.value)


def test_one_whose_part_for_text_is_quantised_is_refused_too(prose, tmp_path):
    folder = write_family("gpt2", tmp_path / "base", [prose])
    config = {"model_type": "gemma3", "text_config": {"quantization_config": {"quant_method": "fp8"}}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"quantised \(FP8\).*the unquantised model that it was made from$"):
        load_tokenizer(str(folder))
