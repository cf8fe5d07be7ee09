import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from configs import InputError
from scratch_models.rungs.llama import LlamaConfig as ScratchConfig
from scratch_models.rungs.llama import rotary_turns, turn
from scratch_models.rungs.llama_weights import load_llama
from tests.real_tokenizers import smollm2_folder

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "max_position_embeddings": 32,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
}


def llama_in(folder: Path, **fields: Any) -> LlamaForCausalLM:
    """A Llama of transformers with weights of a trained model's size, saved in `folder`."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SMALL, **fields})).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.1)
    model.save_pretrained(folder)
    return model


def random_ids(rows: int, tokens: int) -> Tensor:
    return torch.randint(60, (rows, tokens), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_logits_of_smollm2_are_those_of_transformers_and_so_is_what_it_writes() -> None:
    folder = smollm2_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours, theirs = load_llama("smollm2"), LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt").input_ids
    expected = theirs(ids).logits
    torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)
    assert expected.std() > 1  # so that 1e-4 says something
    for _ in range(8):
        ids = torch.cat([ids, ours(ids)[:, -1:].argmax(dim=-1)], dim=1)
    assert tokenizer.decode(ids[0]).endswith("The capital of France is Paris.<|im_end|>")


@torch.no_grad()
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_key_value_heads": 6, "tie_word_embeddings": True},
        {"num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        {"rms_norm_eps": 0.01},
    ],
    ids=["grouped", "a head each, tied", "one head, slower turns", "epsilon"],
)
def test_logits_of_every_shape_are_those_of_transformers(tmp_path: Path, fields: dict[str, Any]) -> None:
    theirs, ids = llama_in(tmp_path, **fields), random_ids(3, 32)
    ours = load_llama(tmp_path)
    assert (ours.lm_head.weight is ours.token_embedding_table.weight) == bool(fields.get("tie_word_embeddings"))
    expected = theirs(ids).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-5)


def test_the_product_of_a_query_and_a_key_depends_on_their_distance_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(16, dtype=torch.float64, generator=generator) for _ in range(2))
    turns = rotary_turns(60, 16, 10_000.0)
    queries, keys = (turn(one.expand(1, 1, 60, 16), turns)[0, 0] for one in (query, key))
    products = queries @ keys.T  # (60, 60)
    for distance in (0, 1, 7):
        along = products.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=1e-5)
    assert abs(products[7, 0] - products[1, 0]) > 0.01
    torch.testing.assert_close(products[0, 0], query @ key)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_bias": True}, "attention_bias is True, expected False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'silu'"),
        ({"head_dim": 16}, "head_dim is 16, expected 8"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "rope_type is 'linear', expected 'default'",
        ),
    ],
)
def test_a_llama_that_computes_something_else_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    llama_in(tmp_path, **fields)
    with pytest.raises(InputError, match=message):
        load_llama(tmp_path)


def test_a_folder_of_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(InputError, match="its model_type is 'gpt2', expected a Llama"):
        load_llama(tmp_path)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    llama_in(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(InputError, match="num_hidden_layers is 3, and the stored weights have those of 2 layers"):
        load_llama(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 5}, "width 48 is not an even multiple of heads 5"),
        ({"key_value_heads": 4}, "heads 6 is not a multiple of key_value_heads 4"),
        ({"layers": 0}, "sizes of at least 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(fields: dict[str, int], message: str) -> None:
    shape: dict[str, Any] = {"heads": 6, "key_value_heads": 2, "layers": 1, "width": 48, "hidden_width": 80}
    with pytest.raises(InputError, match=message):
        ScratchConfig(**{**shape, **fields}, vocabulary_size=60, block_size=8)
