"""Adapters that other tools made are opened as they left them, or refused in one line, and never opened half."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from configs import InputError
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import find_base, load_assistant, load_start
from tests.finetune.trained_runs import base_model, base_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id

LAYERS = {"target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """A Llama with a head of its own, and one whose head is tied to its embedding."""
    folder, tokenizer = tmp_path_factory.mktemp("bases"), base_tokenizer()
    for name, tied in (("untied", False), ("tied", True)):
        base_model("llama", tokenizer, tied=tied).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: folder / name for name in ("untied", "tied")}


def _made_by_peft(
    base: Path, folder: Path, *, new_tokens: int = 0, with_tokenizer: bool = True, **fields
) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """An adapter as peft and TRL leave it, with ids, the newest among them, and what it said of them in memory."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), base_tokenizer()
    if new_tokens:
        tokenizer.add_tokens([f"<new {number}>" for number in range(new_tokens)], special_tokens=True)
        model.resize_token_embeddings(next_token_id(tokenizer))
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM", **(LAYERS | fields))).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    end = next_token_id(tokenizer)
    ids = torch.cat([torch.arange(20), torch.arange(end - 20, end)])[None]
    with torch.no_grad():
        logits = adapted(ids).logits
    adapted.save_pretrained(folder)
    if with_tokenizer:
        tokenizer.save_pretrained(folder)
    return folder, ids, logits


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "the tokenizer only at the base": ("untied", {"with_tokenizer": False}),
    "a head trained whole": ("untied", {"modules_to_save": ["lm_head"]}),
    "both tables grown and trained whole": (
        "untied",
        {"modules_to_save": ["lm_head", "embed_tokens"], "new_tokens": 5},
    ),
    "grown, the rows saved as they came": ("tied", {"new_tokens": 5}),
    "grown, its new rows trained": ("untied", {"new_tokens": 5, "trainable_token_indices": [265, 266]}),
    "DoRA on all linear layers": ("tied", {"target_modules": "all-linear", "use_dora": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_of_peft_says_what_it_said_in_memory_also_merged(bases, tmp_path, case):
    kind, fields = CASES[case]
    folder, ids, logits = _made_by_peft(bases[kind], tmp_path / "adapter", **fields)
    model, tokenizer = load_assistant(folder)
    torch.testing.assert_close(model(ids).logits, logits, rtol=1e-5, atol=1e-5)
    assert next_token_id(tokenizer) == (265 + fields.get("new_tokens", 0))
    assert find_base(folder) == str(bases[kind])
    merge_with_receipt(folder, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(merged(ids).logits, logits, rtol=1e-4, atol=1e-4)


def test_replies_end_where_the_tokenizer_beside_an_adapter_says(bases, tmp_path):
    folder, *_ = _made_by_peft(bases["untied"], tmp_path / "adapter", new_tokens=2)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.eos_token = "<new 1>"  # as a trainer that is told the end of a turn does
    tokenizer.save_pretrained(folder)
    model, tokenizer = load_assistant(folder)
    assert tokenizer.eos_token_id == 266 and 266 in model.generation_config.eos_token_id
    assert merge_with_receipt(folder, tmp_path / "merged").stop_ids == model.generation_config.eos_token_id


def test_a_base_that_was_named_from_where_the_training_stood_is_found_from_there(bases, tmp_path, monkeypatch):
    folder, ids, logits = _made_by_peft(bases["untied"], tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    monkeypatch.chdir(bases["untied"].parent)
    for name in ("untied", "./untied"):
        (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": name}))
        torch.testing.assert_close(load_start(folder)[0](ids).logits, logits, rtol=1e-4, atol=1e-4)


def _prompt_tuning(base: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(model, config).save_pretrained(folder)


def _without_a_tensor(base: Path, folder: Path) -> None:
    _made_by_peft(base, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, folder / "adapter_model.safetensors")


def _with_tokens_that_have_no_row(base: Path, folder: Path) -> None:
    _made_by_peft(base, folder)
    tokenizer = base_tokenizer()
    tokenizer.add_tokens(["<new 0>", "<new 1>"], special_tokens=True)
    tokenizer.save_pretrained(folder)


def _pickled(base: Path, folder: Path) -> None:
    _made_by_peft(base, folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _of_a_base_that_is_nowhere(base: Path, folder: Path) -> None:
    _made_by_peft(base, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/no/such/base"}))


def _on_a_quantised_base(base: Path, folder: Path) -> None:
    # Public report of axolotl (PR 3771): the delta was folded into weights that were still quantised.
    quantised = shutil.copytree(base, folder.parent / "quantised")
    config = json.loads((quantised / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    _made_by_peft(base, folder)
    (quantised / "config.json").write_text(json.dumps(config))
    fields = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**fields, "base_model_name_or_path": str(quantised)}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_on_a_quantised_base, "quantised"),
        (_prompt_tuning, "is of the kind PROMPT_TUNING, expected an adapter inside of layers, such as LoRA"),
        (_without_a_tensor, "missing adapter keys"),
        (
            _with_tokens_that_have_no_row,
            "its tokenizer has ids up to 266, and .* rows for 265: expected the trained rows",
        ),
        (_pickled, r"holds no adapter_model\.safetensors"),
        (
            _of_a_base_that_is_nowhere,
            r"its base /no/such/base is not there: get it, or name it in adapter_config\.json",
        ),
    ],
)
def test_what_cannot_be_opened_whole_is_refused_in_one_line(bases, tmp_path, make, message):
    make(bases["untied"], tmp_path / "adapter")
    for use in (load_assistant, lambda adapter: merge_with_receipt(adapter, tmp_path / "merged")):
        with pytest.raises(InputError, match=message) as refused:
            use(tmp_path / "adapter")
        assert "\n" not in str(refused.value) and not (tmp_path / "merged").exists()
