import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlavaConfig, MambaConfig

from configs import InputError, MissingInput
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer, positions_of


@pytest.fixture
def folder(small_tokenizer, tmp_path: Path) -> Path:
    """A whole model with its tokenizer."""
    torch.manual_seed(0)
    fields = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(vocab_size=400, bos_token_id=None, eos_token_id=None, **fields)).save_pretrained(
        tmp_path
    )
    small_tokenizer.save_pretrained(tmp_path)
    return tmp_path


def change_weights(folder: Path, change) -> None:
    weights = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refusal(load, place: str | Path, kind: type[InputError] = InputError) -> str:
    """The one line with which a place is refused."""
    with pytest.raises(kind) as error:
        load(str(place))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(place))
    return message


def test_weights_and_ids_are_those_that_were_saved(folder: Path, small_tokenizer, prose):
    model = load_model(str(folder))
    weights = model.state_dict()
    assert not model.training
    assert all(torch.equal(weights[name], tensor) for name, tensor in load_file(folder / "model.safetensors").items())
    assert load_tokenizer(str(folder)).encode(prose) == small_tokenizer.encode(prose)


def test_half_precision_is_read_as_single_precision_or_as_it_is_stored(folder: Path):
    GPT2LMHeadModel.from_pretrained(folder).bfloat16().save_pretrained(folder)
    assert load_model(str(folder)).dtype == torch.float32
    assert load_model(str(folder), dtype="auto").dtype == torch.bfloat16


def test_pickled_weights_are_not_opened(folder: Path):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin: a pickle, which can run code, is not opened, expected model.safetensors" in refusal(
        load_model, folder
    )


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_code_that_comes_with_a_model_is_not_run(folder: Path, load, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked whether to run it"))
    (folder / "strange.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    change_config(
        folder, model_type="strange", auto_map={"AutoConfig": "strange.Config", "AutoModelForCausalLM": "strange.Model"}
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "strange.Tokenizer"]}
    del settings["tokenizer_class"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "contains custom code" in refusal(load, folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_its_name(folder: Path, value: float):
    change_weights(folder, lambda weights: weights["transformer.ln_f.bias"].__setitem__(3, value))
    assert "transformer.ln_f.bias holds NaN or infinity" in refusal(load_model, folder)


def test_a_missing_weight_is_refused_instead_of_drawn_at_random(folder: Path):
    change_weights(folder, lambda weights: weights.pop("transformer.ln_f.bias"))
    assert "its weights lack transformer.ln_f.bias" in refusal(load_model, folder)


def test_the_weights_of_a_model_of_another_kind_are_refused(folder: Path):
    fields = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=400, **fields)).save_pretrained(folder)
    assert "its weights lack cls." in refusal(load_model, folder)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda folder: change_config(folder, n_embd=32), "n_embd is 32, and the stored weights have no side"),
        (lambda folder: change_config(folder, n_embd="wide"), "Validation error for field 'n_embd'"),
        (lambda folder: change_config(folder, model_type="t5"), "no causal model ("),
        (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON file"),
        (lambda folder: os.truncate(folder / "model.safetensors", 2000), "ends at byte"),
        (lambda folder: os.truncate(folder / "model.safetensors", 200), "no whole safetensors file"),
        (lambda folder: os.truncate(folder / "model.safetensors", 0), "no whole safetensors file"),
    ],
)
def test_a_damaged_model_is_refused(folder: Path, damage, found: str):
    damage(folder)
    message = refusal(load_model, folder)
    assert found in message
    assert "expected a folder with config.json, model.safetensors" in message or "get the model anew" in message


@pytest.mark.parametrize("also", [[], ["tokenizer_config.json"]])
def test_a_folder_without_a_tokenizer_is_refused(folder: Path, also: list[str]):
    for name in ["tokenizer.json", *also]:
        (folder / name).unlink()
    assert "holds no tokenizer.json" in refusal(load_tokenizer, folder, MissingInput)


@pytest.mark.parametrize(
    ("content", "found"), {"{}": "no tokenizer (", "no JSON": "not a valid JSON file", "": "not a valid JSON"}.items()
)
def test_a_damaged_tokenizer_is_refused(folder: Path, content: str, found: str):
    (folder / "tokenizer.json").write_text(content)
    assert found in refusal(load_tokenizer, folder)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_place_that_holds_no_model_is_refused(folder: Path, load):
    (folder / "empty").mkdir()
    assert "holds no config.json" in refusal(load, folder / "empty", MissingInput)
    assert "is a file" in refusal(load, folder / "config.json")
    assert "no such folder" in refusal(load, folder / "nowhere", MissingInput)
    assert "no such folder" in refusal(load, "nowhere/at all", MissingInput)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_mistyped_folder_is_not_asked_of_the_hub(folder: Path, load, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert "no such folder" in refusal(load, f"{folder.name}/typo", MissingInput)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_hub_name_offline_is_refused_at_once(load, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    started = time.monotonic()
    assert "no such folder, and not fetched from the Hub (Cannot find" in refusal(load, "nobody/no-such-model")
    assert time.monotonic() - started < 5


def test_the_positions_of_a_model_that_also_sees_are_those_of_its_part_for_text():
    text = GPT2Config(n_positions=48, n_embd=16, n_layer=1, n_head=2, vocab_size=50)
    model = GPT2LMHeadModel(text)
    assert positions_of(model) == 48
    model.config = LlavaConfig(text_config=LlamaConfig(max_position_embeddings=96))
    assert positions_of(model) == 96 and not hasattr(model.config, "max_position_embeddings")
    model.config = MambaConfig()
    assert positions_of(model) is None
