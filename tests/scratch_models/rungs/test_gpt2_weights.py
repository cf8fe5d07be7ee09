import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Model, PreTrainedTokenizerFast

from configs import InputError, MissingInput
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.gpt2_weights import GPT2_SIZES, gpt2_config, load_gpt2, save_gpt2, weight_names

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "n_positions": 16,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": None,
    "eos_token_id": None,
}


def gpt2_in(folder: Path, **fields: Any) -> GPT2LMHeadModel:
    """A GPT-2 of transformers with weights of a trained model's size, biases and norms included, saved in `folder`."""
    torch.manual_seed(0)
    with torch.device("meta"):  # its own start values would take longer than the test
        model = GPT2LMHeadModel(GPT2Config(**{**SMALL, **fields})).eval()
    model.to_empty(device="cpu").tie_weights()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(".ln_" in name and name.endswith("weight")), std=0.1)
    model.save_pretrained(folder)
    return model


def random_ids(vocabulary_size: int = 60, rows: int = 2, tokens: int = 16) -> Tensor:
    return torch.randint(vocabulary_size, (rows, tokens), generator=torch.Generator().manual_seed(1))


def change_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    weights = change(load(path.read_bytes()))
    save_file(weights, path, metadata={"format": "pt"})


def byte_tokenizer() -> PreTrainedTokenizerFast:
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: id_ for id_, byte in enumerate(bytes_)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token=None
    )


@pytest.mark.long
@torch.no_grad()
def test_logits_at_the_124m_shape_are_those_of_transformers(tmp_path: Path) -> None:
    shape = GPT2_SIZES["gpt2"]
    theirs = gpt2_in(tmp_path, vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12)
    ours = load_gpt2(tmp_path)
    assert (ours.config.vocabulary_size, ours.config.layers, ours.config.width) == (50257, 12, 768)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 124_439_808
    assert ours.config.block_size == shape.block_size
    ids = random_ids(50257, rows=1, tokens=12)
    expected = theirs(ids).logits
    assert expected.std() > 1  # so that 1e-4 says something
    torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)
    (tmp_path / "model.safetensors").unlink()  # half a gigabyte, which pytest would keep for three more runs


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh"])
def test_small_logits_are_those_of_transformers(tmp_path: Path, tied: bool, activation: str) -> None:
    theirs = gpt2_in(tmp_path, tie_word_embeddings=tied, activation_function=activation)
    ours = load_gpt2(tmp_path)
    assert (ours.lm_head.weight is ours.token_embedding_table.weight) == tied
    assert not ours.training
    assert all(parameter.requires_grad for parameter in ours.parameters())
    torch.testing.assert_close(ours(random_ids()), theirs(random_ids()).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", GPT2_SIZES)
def test_the_table_names_every_weight_of_the_four_sizes(size: str) -> None:
    with torch.device("meta"):
        ours = GPT(GPT2_SIZES[size])
        theirs = GPT2LMHeadModel(gpt2_config(ours))
    names = weight_names(GPT2_SIZES[size])
    our_shapes = {name: tuple(weight.shape) for name, weight in ours.state_dict().items() if name != "lm_head.weight"}
    their_shapes = {
        name: tuple(weight.shape) for name, weight in theirs.state_dict().items() if name != "lm_head.weight"
    }
    assert {name.scratch for name in names} == set(our_shapes)
    assert {name.transformers for name in names} == set(their_shapes)
    for name in names:
        expected = their_shapes[name.transformers]
        assert our_shapes[name.scratch] == (expected[::-1] if name.transposed else expected), name


def test_the_four_sizes_have_the_published_parameter_counts() -> None:
    counts = {}
    for size, config in GPT2_SIZES.items():
        with torch.device("meta"):
            counts[size] = sum(parameter.numel() for parameter in GPT(config).parameters())
    # As transformers counts them for openai-community/gpt2, -medium, -large and -xl: 124M, 355M, 774M, 1.5B.
    assert counts == {
        "gpt2": 124_439_808,
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
    }


@pytest.mark.parametrize("tied", [True, False])
def test_written_back_it_is_the_same_model_bit_for_bit(tmp_path: Path, tied: bool) -> None:
    theirs = gpt2_in(tmp_path / "theirs", tie_word_embeddings=tied)
    save_gpt2(load_gpt2(tmp_path / "theirs"), tmp_path / "ours")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
    state = again.state_dict()
    assert state.keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(state[name], weight), name
    assert (again.lm_head.weight is again.transformer.wte.weight) == tied
    with torch.no_grad():
        assert torch.equal(again(random_ids()).logits, theirs(random_ids()).logits)


def test_a_scratch_model_opens_in_transformers_with_its_tokenizer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    model = GPT(GPTConfig(vocabulary_size=len(tokenizer), block_size=16, layers=2, heads=2, width=16)).eval()
    save_gpt2(model, tmp_path, tokenizer)
    theirs, their_tokenizer = GPT2LMHeadModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = their_tokenizer("a é!", return_tensors="pt").input_ids
    assert ids[0].tolist() == tokenizer.encode("a é!")
    assert theirs.config.eos_token_id == theirs.generation_config.eos_token_id == tokenizer.eos_token_id
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=0, atol=1e-5)


def test_weights_in_bf16_are_the_rounded_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocabulary_size=60, block_size=16, layers=1, heads=2, width=16))
    save_gpt2(model, tmp_path, dtype=torch.bfloat16)
    assert {weight.dtype for weight in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    for name, weight in load_gpt2(tmp_path).state_dict().items():
        assert torch.equal(weight, model.state_dict()[name].bfloat16().float()), name


@torch.no_grad()
def test_weights_without_the_prefix_load_as_on_the_hub(tmp_path: Path) -> None:
    # The published folders were saved from the model without its head, with the causal mask as a buffer.
    theirs = gpt2_in(tmp_path / "head")
    GPT2Model.from_pretrained(tmp_path / "head").save_pretrained(tmp_path)
    mask = torch.ones(1, 1, 16, 16).tril()
    change_weights(tmp_path, lambda weights: {**weights, "h.0.attn.bias": mask, "h.1.attn.bias": mask.clone()})
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(load_gpt2(tmp_path)(random_ids()), theirs(random_ids()).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_head_of_its_own_counts_even_where_the_configuration_says_tied(tmp_path: Path) -> None:
    gpt2_in(tmp_path)
    change_weights(tmp_path, lambda weights: {**weights, "lm_head.weight": torch.randn(60, 32)})
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    ours = load_gpt2(tmp_path)
    assert not ours.config.tied
    torch.testing.assert_close(ours(random_ids()), theirs(random_ids()).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "relu"),
        ("activation_function", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("n_inner", 64),
        ("attn_pdrop", 0.5),
    ],
)
def test_what_gpt_does_not_compute_is_refused_by_name(tmp_path: Path, field: str, value: object) -> None:
    gpt2_in(tmp_path, **{field: value})
    with pytest.raises(InputError, match=rf"{field}.*{value}.*expected"):
        load_gpt2(tmp_path)


def test_a_checkpoint_that_lacks_a_weight_is_refused_by_its_name(tmp_path: Path) -> None:
    gpt2_in(tmp_path)
    missing = "transformer.h.1.mlp.c_fc.weight"
    change_weights(tmp_path, lambda weights: {name: weight for name, weight in weights.items() if name != missing})
    with pytest.raises(InputError, match=f"its weights lack {missing}"):
        load_gpt2(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_broken_weights_are_refused(tmp_path: Path, content: bytes | None) -> None:
    gpt2_in(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_gpt2(tmp_path)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ('{"model_type": "llama"}', "model_type is 'llama'"),
        ('{"model": "bigram"}', "model_type is None"),
        ("{", "no usable config.json"),
        ('{"model_type": "gpt2", "n_layer": "12"}', "n_layer"),
    ],
)
def test_a_folder_that_is_no_gpt2_is_refused(tmp_path: Path, config: str, found: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=found) as caught:
        load_gpt2(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_mistyped_folder_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    for name in (tmp_path / "missing", "./missing", "runs/gpt-1/final"):
        with pytest.raises(MissingInput, match="no such folder"):
            load_gpt2(name)


def test_a_tokenizer_with_more_tokens_than_rows_is_not_saved(tmp_path: Path) -> None:
    model = GPT(GPTConfig(vocabulary_size=60, block_size=16, layers=1, heads=2, width=16))
    with pytest.raises(InputError, match="the tokenizer has 257 tokens and the model 60 rows"):
        save_gpt2(model, tmp_path / "new", byte_tokenizer())
    assert not (tmp_path / "new").exists()


def test_a_model_outlives_the_file_that_it_came_from(tmp_path: Path) -> None:
    gpt2_in(tmp_path)
    model = load_gpt2(tmp_path)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    path = tmp_path / "model.safetensors"
    with path.open("r+b") as file:  # overwritten in place, not replaced
        file.write(b"\x00" * path.stat().st_size)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
