"""What did not change is named and not copied, proved by its hash, and opened from anywhere by plain peft."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from configs import InputError
from finetune.export.base_on_disk import BaseOnDisk, note_base, place_on_hub, stored_type
from finetune.export.final_folder import save_assistant
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import load_adapted, load_assistant, load_start
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import TrainableModel, make_trainable_model
from tests.finetune.trained_runs import DOCUMENTS, base_model, base_tokenizer
from tokenizer_ext.extension.certificate import hash_weights, read_certificate, weights_sha256
from tokenizer_ext.huggingface.hf_model import load_model

IDS = torch.arange(40).view(2, 20)
TEMPLATE = "{% for m in messages %}{{ m['role'] ~ ': ' ~ m['content'] ~ '<|endoftext|>' }}{% endfor %}"


@pytest.fixture
def base(tmp_path) -> Path:
    """An instruct model stored in bfloat16, with a chat template of its own and the project's control tokens."""
    return _write_base(tmp_path / "instruct", torch.bfloat16)


def _write_base(folder: Path, dtype: torch.dtype) -> Path:
    tokenizer = base_tokenizer(with_control_tokens=True)
    tokenizer.chat_template = TEMPLATE
    model = base_model("llama", tokenizer, tied=False).to(dtype)
    model.generation_config = GenerationConfig(eos_token_id=3, temperature=0.6, do_sample=True)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _train(base: str | Path, *, new_tokens: int = 0, **options) -> TrainableModel:
    model, tokenizer = load_start(base)
    lora = Lora(rank=4, alpha=8.0, dropout=0.0, options=options)
    trainable = make_trainable_model(
        model, tokenizer, DOCUMENTS if new_tokens else [], new_tokens=new_tokens, lora=lora
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return trainable


def _save(trainable: TrainableModel, final: Path, **options) -> str:
    final.parent.mkdir(exist_ok=True)
    return save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, final, trainable.extended, **options)


def _logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def _types(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def test_without_new_tokens_final_is_an_adapter_that_names_its_base_and_nothing_more(base, tmp_path):
    trainable = _train(base)
    kept = _save(trainable, tmp_path / "run" / "final", own_stops=[2, 3])
    final = tmp_path / "run" / "final"
    names = {path.name for path in final.iterdir()}
    assert names == {
        *("adapter_config.json", "adapter_model.safetensors", "base.json", "chat_template.jinja"),
        *("generation_config.json", "manifest.json", "tokenizer.json", "tokenizer_config.json"),
    }
    config, record = (json.loads((final / name).read_text()) for name in ("adapter_config.json", "base.json"))
    sha256 = weights_sha256(hash_weights(load_model(str(base)), record["tokens"]))
    assert (config["base_model_name_or_path"], config["revision"]) == (str(base.absolute()), None)
    assert record["weights_sha256"] == sha256 and sha256 in kept
    beyond = sum((final / name).stat().st_size for name in names if name not in ("adapter_model.safetensors",))
    assert beyond <= sum(path.stat().st_size for path in base.glob("tokenizer*")) + 100_000


def test_plain_peft_opens_it_from_another_folder_and_says_the_same(base, tmp_path, monkeypatch):
    trainable = _train(base)
    in_memory = _logits(trainable.model)
    _save(trainable, tmp_path / "run" / "final", own_stops=[3])
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    theirs = AutoPeftModelForCausalLM.from_pretrained("../run/final", dtype=torch.float32)
    ours, _ = load_assistant("../run")
    assert torch.equal(_logits(theirs), _logits(ours))
    torch.testing.assert_close(_logits(ours), in_memory, rtol=1e-5, atol=1e-5)


def test_tokenizer_and_template_are_those_of_the_base_and_replies_end_as_its_template_ends_them(base, tmp_path):
    trainable = _train(base)
    end = trainable.tokenizer.eos_token_id
    _save(trainable, tmp_path / "run" / "final", own_stops=[end, 3])
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (base, tmp_path / "run" / "final"))
    assert after.chat_template == before.chat_template == TEMPLATE
    assert after.get_vocab() == before.get_vocab()
    assert (after.eos_token_id, after.pad_token_id) == (before.eos_token_id, before.pad_token_id)
    model, _ = load_assistant(tmp_path / "run")
    assert model.generation_config.eos_token_id == [end, 3] and model.generation_config.temperature == 0.6


def test_plain_transformers_and_peft_reply_through_the_chat_template(base, tmp_path):
    _save(_train(base), tmp_path / "run" / "final", own_stops=[264])
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run" / "final")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "final")
    inputs = tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], return_tensors="pt", return_dict=True)
    reply = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert reply.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("start", [True, "pissa"])
def test_what_started_by_changing_the_base_fits_the_base_as_it_was(base, tmp_path, start):
    trainable = _train(base, init_lora_weights=start, bias="all" if start == "pissa" else "none")
    in_memory = _logits(trainable.model)
    _save(trainable, tmp_path / "run" / "final")
    assert not (tmp_path / "run" / "final" / "base").exists()
    torch.testing.assert_close(_logits(load_assistant(tmp_path / "run")[0]), in_memory, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_after_an_extension_base_is_stored_as_it_was_and_certified_as_it_is_read_back(dtype, tmp_path):
    base = _write_base(tmp_path / "instruct", dtype)
    trainable = _train(base, new_tokens=5)
    first = trainable.extended.first_new_id
    kept = _save(trainable, tmp_path / "run" / "final")
    folder = tmp_path / "run" / "final" / "base"
    assert stored_type(folder) == stored_type(base) and len(_types(folder)) == 1
    read_back = AutoModelForCausalLM.from_pretrained(folder)
    certificate = read_certificate(folder)
    assert certificate is not None and certificate.holds
    assert certificate.weights_after == hash_weights(read_back, first) == hash_weights(load_model(str(base)), first)
    assert ("rounded from float32" in kept) == (stored_type(base) == torch.bfloat16)
    rows = read_back.get_input_embeddings().weight[first:].float()
    assert torch.equal(rows, trainable.model.get_input_embeddings().weight[first:].float())


def test_an_adapter_on_an_assistant_keeps_what_it_was_merged_into_bit_by_bit(base, tmp_path):
    _save(_train(base), tmp_path / "first" / "final")
    start, _ = load_start(tmp_path / "first")
    second = _train(tmp_path / "first")
    kept = _save(second, tmp_path / "second" / "final")
    assert "it is nowhere else on the disk" in kept
    saved = load_model(str(tmp_path / "second" / "final" / "base"))
    assert all(torch.equal(one, other) for one, other in zip(saved.parameters(), start.parameters(), strict=True))
    assert stored_type(tmp_path / "second" / "final" / "base") == stored_type(base)


def test_a_base_whose_weights_changed_since_is_refused_when_it_is_opened_and_when_it_is_merged(base, tmp_path):
    _save(_train(base), tmp_path / "run" / "final")
    load_assistant(tmp_path / "run")  # its hash is remembered from now on
    other = load_model(str(base), "auto")
    other.get_output_embeddings().weight.data[7, 0] += 1
    other.save_pretrained(base)
    for use in (load_assistant, load_start, lambda run: merge_with_receipt(run, tmp_path / "merged")):
        with pytest.raises(InputError, match="was trained on a base whose weights have the sha256") as refused:
            use(tmp_path / "run")
        assert "\n" not in str(refused.value)


def test_a_base_is_hashed_once_for_each_state_of_its_files_and_anew_for_a_proof(base, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _save(_train(base), tmp_path / "run" / "final")
    hashed = []

    def count(*arguments):
        hashed.append(1)
        return hash_weights(*arguments)

    monkeypatch.setattr("finetune.export.remembered_hashes.hash_weights", count)
    for expected in (1, 1):
        load_assistant(tmp_path / "run")
        assert len(hashed) == expected
    load_adapted(tmp_path / "run" / "final", prove_base=True)
    assert len(hashed) == 2
    os.utime(base / "model.safetensors", (1, 1))
    load_assistant(tmp_path / "run")
    assert len(hashed) == 3


def test_a_base_that_is_gone_is_found_by_the_name_that_was_given_or_said_to_be_missing(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base.parent)
    _save(_train("instruct"), tmp_path / "run" / "final")
    expected = _logits(load_assistant(tmp_path / "run")[0])
    (there := tmp_path / "there").mkdir()
    base.rename(there / "instruct")
    with pytest.raises(InputError, match=r"instruct is not there: get it, or name it in adapter_config\.json"):
        load_assistant(tmp_path / "run")
    monkeypatch.chdir(there)
    assert torch.equal(_logits(load_assistant(tmp_path / "run")[0]), expected)


def test_a_base_of_the_hub_is_named_with_its_commit(base, tmp_path):
    snapshot = tmp_path / "hub" / "models--me--small" / "snapshots" / "607a30d783df"
    assert place_on_hub(snapshot) == ("me/small", "607a30d783df") and place_on_hub(base) is None
    shutil.copytree(base, snapshot)
    trainable = _train(base)
    note_base(trainable.model, BaseOnDisk(given="me/small", folder=snapshot, stored_as=torch.float32))
    kept = _save(trainable, tmp_path / "run" / "final")
    config = json.loads((tmp_path / "run" / "final" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/small", "607a30d783df")
    assert "me/small at 607a30d783df" in kept


def test_the_type_of_a_folder_is_the_one_that_all_its_weights_have(tmp_path):
    model = base_model("gpt2", base_tokenizer(), tied=True)
    for name, dtype in (("half", torch.float16), ("brain", torch.bfloat16), ("single", torch.float32)):
        model.to(dtype).save_pretrained(tmp_path / name)
        assert stored_type(tmp_path / name) == dtype
    model.transformer.ln_f.bfloat16()
    model.save_pretrained(tmp_path / "mixed")
    assert stored_type(tmp_path / "mixed") == torch.float32
