"""Finished models: plain transformers and peft open them, compute what was in memory, and stop where they should."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs import InputError
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import Conversation, Message
from finetune.export.conversational import make_conversational
from finetune.export.final_folder import save_assistant
from finetune.export.saved_model import find_base, load_assistant
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import make_trainable_model
from tests.finetune.tiny_models import TINY_MODELS, questions, tiny_gpt2
from tests.finetune.trained_runs import tuned
from tests.without_manifest import forget_manifests
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.extension.certificate import hash_weights, read_certificate
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, to_hf_tokenizer

DOCUMENTS = [asked for asked, _ in questions(40)]
MESSAGES = (Message("user", DOCUMENTS[0]), Message("assistant", "It is red."))


def _base_tokenizer(padded):
    bpe = train_bpe(DOCUMENTS[:4], 265, special_tokens=["<|endoftext|>"])
    tokenizer = to_hf_tokenizer(bpe.ranks, bpe.special_tokens)
    if padded:
        tokenizer.pad_token = tokenizer.eos_token  # as people do with GPT-2
    return tokenizer


def _make(kind, method, padded=True):
    tokenizer = _base_tokenizer(padded)
    lora = Lora(rank=4, alpha=8.0, dropout=0.0) if method == "lora" else None
    trainable = make_trainable_model(
        TINY_MODELS[kind](next_token_id(tokenizer)), tokenizer, DOCUMENTS, new_tokens=9, lora=lora
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable.model.parameters():
            if parameter.requires_grad:  # as if trained: LoRA's B starts at zero
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return trainable


KINDS = [("gpt2", "lora"), ("llama", "lora"), ("gpt2", "full"), ("llama", "full")]
QUICK = {("gpt2", "lora"), ("llama", "full")}


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, id="-".join(kind), marks=[] if kind in QUICK else pytest.mark.long) for kind in KINDS],
)
def saved(request, tmp_path_factory):
    """A saved run folder, the logits in memory before saving, and what made them."""
    trainable = _make(*request.param)
    ids = GraftFormat(trainable.tokenizer).render(Conversation(MESSAGES, "p")).input_ids
    with torch.no_grad():
        logits = trainable.model(torch.tensor([ids])).logits
    final = tmp_path_factory.mktemp("saved") / "run" / "final"
    final.parent.mkdir()
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, final)
    return final, ids, logits, trainable


def _open_with_the_libraries_alone(final):
    base = final / "base" if (final / "base").is_dir() else final
    model = AutoModelForCausalLM.from_pretrained(base)
    if base != final:
        model = PeftModel.from_pretrained(model, final / "adapter")
    return model.eval(), AutoTokenizer.from_pretrained(base)


def test_transformers_and_peft_compute_the_logits_that_were_in_memory(saved):
    final, ids, logits, _ = saved
    model, tokenizer = _open_with_the_libraries_alone(final)
    messages = [{"role": message.role, "content": message.content} for message in MESSAGES]
    assert tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"] == ids
    torch.testing.assert_close(model(torch.tensor([ids])).logits, logits, rtol=1e-5, atol=1e-5)


def test_generate_of_transformers_stops_at_the_end_of_a_turn(saved):
    final, *_ = saved
    model, tokenizer = _open_with_the_libraries_alone(final)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    _say_for_ever(model, end)
    asked = [{"role": "user", "content": "Why?"}]
    inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert reply.tolist() == [end]
    assert tokenizer.eos_token_id == end


def _say_for_ever(model, token):
    def only_this(_head, _hidden, logits):
        return torch.zeros_like(logits).index_fill(-1, torch.tensor([token]), 1.0)

    model.get_output_embeddings().register_forward_hook(only_this)


def test_what_stopped_the_base_stays_a_stop_and_nothing_else_becomes_one():
    trainable = _make("llama", "lora")
    tokenizer, generation = trainable.tokenizer, trainable.model.generation_config
    end_of_text = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    generation.eos_token_id = [2, tokenizer.convert_tokens_to_ids("<|user|>")]  # 2 is a word, not a control token
    make_conversational(trainable.model, tokenizer)
    end, user = (tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|user|>"))
    assert generation.eos_token_id == [end, end_of_text, user]
    make_conversational(trainable.model, tokenizer)  # as tuning what was tuned does
    assert generation.eos_token_id == [end, end_of_text, user]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (end_of_text, end)


@pytest.mark.parametrize("padded", [True, False])
def test_where_bos_is_eos_is_pad_padding_is_no_end_of_turn(padded):
    trainable = _make("gpt2", "lora", padded)
    end_of_text = trainable.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    make_conversational(trainable.model, trainable.tokenizer)
    end = trainable.tokenizer.convert_tokens_to_ids("<|end|>")
    assert (trainable.tokenizer.eos_token_id, trainable.tokenizer.pad_token_id) == (end, end_of_text)
    assert trainable.model.generation_config.eos_token_id == [end, end_of_text]
    assert trainable.model.generation_config.pad_token_id == trainable.model.config.pad_token_id == end_of_text
    assert trainable.model.config.eos_token_id == end != end_of_text


def test_what_the_base_said_of_its_own_sampling_stays():
    trainable = _make("gpt2", "full")
    trainable.model.generation_config.temperature = 0.6
    make_conversational(trainable.model, trainable.tokenizer)
    assert trainable.model.generation_config.temperature == 0.6


def test_the_saved_base_holds_the_old_weights_bit_by_bit(tmp_path):
    trainable = _make("gpt2", "lora")
    before = trainable.extended.certificate.weights_before
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "final" / "base")
    assert hash_weights(base, trainable.extended.first_new_id) == before
    assert base.lm_head.weight is base.transformer.wte.weight


def test_the_saved_base_holds_the_old_weights_bit_by_bit_where_pissa_changed_them(tmp_path):
    trainable = tuned("gpt2", init_lora_weights="pissa", bias="all")
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "final" / "base")
    assert hash_weights(base, trainable.extended.first_new_id) == trainable.extended.certificate.weights_before


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_certificate_beside_the_weights_says_what_training_did_to_the_old_ones(method, tmp_path):
    trainable = _make("gpt2", method)
    before = trainable.extended.certificate
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final", trainable.extended)
    folder = tmp_path / "final" / ("base" if method == "lora" else "")
    certificate = read_certificate(folder)
    assert certificate is not None
    saved = AutoModelForCausalLM.from_pretrained(folder)
    assert certificate.weights_after == hash_weights(saved, trainable.extended.first_new_id)
    assert (certificate.weights_after == before.weights_before) == (method == "lora")
    assert certificate.all_weights_trained == (method == "full") and certificate.holds
    same = {"weights_after": before.weights_after, "all_weights_trained": False, "reopened": False}
    assert dataclasses.replace(certificate, **same) == before and certificate.reopened
    assert (folder / "report.html").is_file()


def test_an_old_weight_that_moved_under_lora_is_found(tmp_path):
    trainable = _make("gpt2", "lora")
    trainable.model.transformer.wte.table.weight.data[7, 0] += 1e-3
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final", trainable.extended)
    certificate = read_certificate(tmp_path / "final" / "base")
    assert certificate is not None and certificate.flaws == ("weights",)


def test_the_saved_base_is_shared_as_a_delta(tmp_path):
    trainable = _make("llama", "lora")
    first, tokenizer = trainable.extended.first_new_id, trainable.tokenizer
    save_assistant(trainable.model, trainable.adapted, tokenizer, tmp_path / "final", trainable.extended)
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "final" / "base")
    save_delta(trained, AutoTokenizer.from_pretrained(tmp_path / "final" / "base"), first, tmp_path / "delta")
    base = _base_tokenizer(padded=True)
    applied = apply_delta((TINY_MODELS["llama"](next_token_id(base)), base), tmp_path / "delta")
    for name, weight in trained.state_dict().items():
        assert torch.equal(applied.model.state_dict()[name], weight)


def test_an_assistant_is_found_in_any_folder_of_its_run(saved):
    final, ids, logits, trainable = saved
    for folder in (final.parent, final, final / "adapter")[: 3 if trainable.adapted else 2]:
        model, tokenizer = load_assistant(folder)
        torch.testing.assert_close(model(torch.tensor([ids])).logits, logits, rtol=1e-5, atol=1e-5)
        assert tokenizer.get_vocab() == trainable.tokenizer.get_vocab() and not model.training
    if trainable.adapted:
        alone, _ = load_assistant(final / "base")
        assert not torch.allclose(alone(torch.tensor([ids])).logits, logits, atol=1e-3)


def test_a_run_can_be_moved(saved, tmp_path):
    final, ids, logits, _ = saved
    moved = tmp_path / "elsewhere"
    shutil.move(shutil.copytree(final.parent, tmp_path / "run"), moved)
    model, _ = load_assistant(str(moved))
    torch.testing.assert_close(model(torch.tensor([ids])).logits, logits, rtol=1e-5, atol=1e-5)


def test_saving_again_replaces_what_was_there_and_leaves_nothing_half_written(tmp_path):
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").write_text("")
    (tmp_path / ".final.partial").mkdir()
    trainable = _make("gpt2", "lora")
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, final)
    assert sorted(path.name for path in final.iterdir()) == ["adapter", "base"]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


@pytest.fixture(scope="module")
def assistant(tmp_path_factory):
    trainable, final = _make("gpt2", "lora"), tmp_path_factory.mktemp("assistant") / "final"
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, final)
    return final


@pytest.fixture
def adapter(assistant, tmp_path):
    return Path(shutil.copytree(assistant, tmp_path / "final")) / "adapter"


def test_the_adapter_names_its_base_relative_to_itself_and_says_nothing_of_this_machine(adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "../base"
    assert config["target_modules"] == sorted(config["target_modules"])
    names = sorted(path.name for path in adapter.iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]


def _without_base(adapter):
    shutil.rmtree(adapter.parent / "base")


def _without_weights(adapter):
    (adapter / "adapter_model.safetensors").unlink()


def _with_damaged_weights(adapter):
    (adapter / "adapter_model.safetensors").write_bytes(b"none")


def _with_a_config_that_is_no_json(adapter):
    (adapter / "adapter_config.json").write_text("{")


def _beside_another_base(adapter):
    shutil.rmtree(adapter.parent / "base")
    tiny_gpt2(265, n_embd=16).save_pretrained(adapter.parent / "base")
    _base_tokenizer(True).save_pretrained(adapter.parent / "base")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_base, "the adapter points at [.]{2}/base, which is not there: keep adapter/ and base/ side by side"),
        (_without_weights, "holds no adapter_model.safetensors, expected what peft writes"),
        (_with_damaged_weights, "adapter_model.safetensors: no whole safetensors file"),
        (_with_a_config_that_is_no_json, "adapter_config.json: not a valid JSON file"),
        (_beside_another_base, "no adapter for"),
    ],
)
def test_a_damaged_assistant_is_refused_in_one_line(adapter, damage, message):
    forget_manifests(adapter)
    damage(adapter)
    with pytest.raises(InputError, match=message) as refused:
        load_assistant(adapter)
    assert "\n" not in str(refused.value)


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="the run is not finished, it has no final/"):
        load_assistant(tmp_path)


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no config\.json"):
        load_assistant(tmp_path)


def test_the_base_of_a_run_is_known_in_every_folder_of_it(tmp_path):
    run = tmp_path / "sft-1"
    (run / "final" / "adapter").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"settings": {"base": "openai-community/gpt2"}}))
    assert {find_base(run / part) for part in ("", "final", "final/adapter")} == {"openai-community/gpt2"}
    assert find_base(tmp_path) is None
