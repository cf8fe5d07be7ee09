"""A folder made to do harm ends in one line: nothing of it runs, no pickle is opened, nothing hangs or is written."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from configs import InputError
from finetune.export.saved_model import load_assistant
from tests.finetune.tiny_models import save_tiny_base
from tests.reliability.hostile_folders import (
    MODELS,
    TOKENIZERS,
    Hostile,
    canary_of,
    change_fields,
    index_to,
    plant_pickles,
)
from tokenizer_ext.foreign.files_in_folder import PICKLES
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

SECONDS = 20
OPENED: list[str] = []
"""The pickles that this process has opened since a test emptied it."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).endswith(PICKLES) and "pytest" in str(arguments[0]):
        OPENED.append(str(arguments[0]))
    if event == "pickle.find_class":
        OPENED.append(f"{arguments[0]}.{arguments[1]}")


sys.addaudithook(_note)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    config = LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(base, tmp_path) -> Path:
    shutil.copytree(base, tmp_path / "base")
    return tmp_path / "base"


def _refused(load: Callable[[str], Any], folder: Path) -> str:
    """The one line with which a folder is refused."""
    before = {path: path.lstat().st_mtime_ns for path in folder.parent.rglob("*")}
    OPENED.clear()
    started = time.monotonic()
    with pytest.raises(InputError) as refused:
        load(str(folder))
    assert time.monotonic() - started < SECONDS
    line = str(refused.value)
    assert "\n" not in line and len(line) < 1000 and str(folder) in line
    assert {path: path.lstat().st_mtime_ns for path in folder.parent.rglob("*")} == before, "nothing is written"
    assert OPENED == [] and not canary_of(folder).exists()
    return line


@pytest.mark.parametrize("hostile", MODELS.values(), ids=list(MODELS))
def test_a_hostile_model_is_one_line(folder, hostile: Hostile):
    hostile.change(folder)
    assert hostile.said in _refused(load_model, folder)


@pytest.mark.parametrize("hostile", TOKENIZERS.values(), ids=list(TOKENIZERS))
def test_a_hostile_tokenizer_is_one_line(folder, hostile: Hostile):
    hostile.change(folder)
    assert hostile.said in _refused(load_tokenizer, folder)


def test_pickles_beside_a_whole_model_are_not_looked_at(folder):
    plant_pickles(folder)
    change_fields("config.json", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})(folder)
    OPENED.clear()
    model, _ = load_model(str(folder)), load_tokenizer(str(folder))
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in stored.items())
    assert OPENED == [] and not canary_of(folder).exists()
    assert not hasattr(model.config, "auto_map"), "it would travel into what is saved"


def test_the_watch_sees_a_pickle_that_is_opened(folder):
    plant_pickles(folder)
    OPENED.clear()
    with pytest.raises(Exception, match="weights_only"):
        torch.load(folder / "model.pt")
    assert [str(folder / "model.pt")] == OPENED


def test_shards_beside_their_index_are_opened(folder):
    index_to("model-00001-of-00001.safetensors")(folder)
    (folder.parent / "outside.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    assert load_model(str(folder)).config.n_layer == 2


ADAPTERS = {
    "pickle": (None, "adapter_model.bin is a pickle, which can run code and is not opened"),
    "backtracking": ({"target_modules": r"(([a-z_.0-9])+)+X"}, "does not match the names of the modules within"),
    "backtracking rank": ({"rank_pattern": {r"(([a-z_.0-9])+)+X": 3}}, "does not match the names of the modules"),
    "no pattern": ({"target_modules": "(c_attn"}, "is none ("),
    "megatron": ({"megatron_config": {"a": 1}, "megatron_core": "modeling_evil"}, "megatron_core and megatron_config"),
    "library": ({"auto_mapping": {"parent_library": "modeling_evil"}}, "auto_mapping names the code of"),
    "rank 1e9": ({"r": 10**9}, "r is 1,000,000,000, and its stored weights have no side above"),
    "rank of a layer": ({"rank_pattern": {"c_attn": 10**9}}, "rank_pattern.c_attn is 1,000,000,000"),
    "1e9 prompts": (
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**9},
        "num_virtual_tokens is 1,000,000,000",
    ),
    "no base": ({"base_model_name_or_path": None}, "names no base"),
    "kind": ({"peft_type": "EVIL"}, "no adapter for"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_hostile_adapter_is_one_line(base, adapter, tmp_path, name):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    fields, said = ADAPTERS[name]
    change_fields("adapter_config.json", **{"base_model_name_or_path": str(base), **(fields or {})})(folder)
    if fields is None:
        plant_pickles(folder)
        (folder / "adapter_model.safetensors").unlink()
    assert said in _refused(load_assistant, folder)


def test_an_adapter_with_a_pattern_that_ends_is_opened(base, adapter, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    change_fields("adapter_config.json", base_model_name_or_path=str(base), target_modules=r".*\.c_attn")(folder)
    assert load_assistant(folder)[0].config.n_layer == 2
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == r".*\.c_attn"
