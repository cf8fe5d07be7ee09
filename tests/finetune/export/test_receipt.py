"""A merged model says what its adapter says once it is read back, stops where it should, or is not there at all."""

import dataclasses
import hashlib
import itertools
import json
import shutil
import warnings
from pathlib import Path

import peft.tuners.lora
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from configs import InputError
from finetune.export import receipt as receipt_module
from finetune.export.final_folder import save_assistant
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import load_assistant
from finetune.lora.trainable_model import make_trainable_model
from tests.finetune import trained_runs
from tests.finetune.tiny_models import POSITIONS
from tests.finetune.trained_runs import DOCUMENTS, VARIANTS, base_model, base_tokenizer, save_run, tuned
from tokenizer_ext.extension.certificate import hash_weights, read_certificate
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer

CASES = [*itertools.product(["gpt2", "llama"], [True, False], VARIANTS, [9]), ("gpt2", True, "PiSSA", None)]
"""All 32 are in tests/benchmarks/merge_receipts.py."""
QUICK = {("gpt2", True, "LoRA"), ("gpt2", False, "PiSSA"), ("llama", False, "DoRA"), ("llama", True, "rsLoRA")}
"""Each kind of model, head and adapter once."""


@pytest.mark.parametrize(
    ("kind", "tied", "variant", "new_tokens"),
    [pytest.param(*case, marks=[] if case[:3] in QUICK else pytest.mark.long) for case in CASES],
)
def test_the_merged_model_read_from_disk_says_what_the_tuned_one_said_in_memory(
    kind, tied, variant, new_tokens, tmp_path
):
    trainable = tuned(kind, tied=tied, new_tokens=new_tokens, **VARIANTS[variant])
    ids = torch.arange(len(trainable.tokenizer))[-60:].view(2, 30)  # the newest ids among them
    with torch.no_grad():
        logits = trainable.model(ids).logits
    receipt = merge_with_receipt(save_run(trainable, tmp_path / "run"), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert (merged(ids).logits - logits).abs().max() <= 1e-4
    assert receipt.largest_difference <= 1e-4
    assert receipt.tied == tied == (merged.get_output_embeddings().weight is merged.get_input_embeddings().weight)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_run(tuned(), tmp_path_factory.mktemp("saved") / "run").parent


@pytest.fixture
def final(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "run")) / "final"


def test_template_stops_and_padding_travel_so_that_a_pipeline_stops_at_the_end_of_a_turn(final, tmp_path):
    receipt = merge_with_receipt(final, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    end = tokenizer.convert_tokens_to_ids("<|end|>")

    def only_the_end(_head, _hidden, logits):
        return torch.zeros_like(logits).index_fill(-1, torch.tensor([end]), 1.0)

    model.get_output_embeddings().register_forward_hook(only_the_end)
    speak = pipeline("text-generation", model=model, tokenizer=tokenizer)
    said = speak([{"role": "user", "content": "Why?"}], max_new_tokens=20, do_sample=False, return_full_text=False)
    assert said[0]["generated_text"].replace("<|end|>", "") == ""
    # vLLM takes the stops from this file, and the template from the tokenizer.
    generation = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == receipt.stop_ids == [end, tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    assert generation["pad_token_id"] == tokenizer.pad_token_id != end == tokenizer.eos_token_id
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(final / "base").chat_template


def test_the_receipt_beside_the_weights_holds_the_hashes_of_all_other_files(final, tmp_path):
    receipt = merge_with_receipt(final, tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "receipt.json").read_text()) == dataclasses.asdict(receipt)
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "merged").iterdir()
        if path.name not in ("receipt.json", "manifest.json")
    }
    assert receipt.files_sha256 == found and "model.safetensors" in found
    assert "256 positions" in receipt.describe() and "\n" not in receipt.describe()


def test_the_certificate_says_that_the_old_weights_are_others_on_purpose(tmp_path):
    final = save_run(tuned(), tmp_path / "run", certified=True)
    merge_with_receipt(final, tmp_path / "merged")
    before, after = read_certificate(final / "base"), read_certificate(tmp_path / "merged")
    assert before is not None and after is not None
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert after.holds and after.all_weights_trained and not before.all_weights_trained
    assert after.weights_after == hash_weights(merged, after.base_tokens) != before.weights_after
    as_before = dataclasses.replace(after, weights_after=before.weights_after, all_weights_trained=False)
    assert as_before == before and after.reopened


def test_a_merged_folder_is_an_assistant_as_it_is(final, tmp_path):
    merge_with_receipt(final, tmp_path / "merged")
    ids = torch.arange(20)[None]
    merged, _ = load_assistant(tmp_path / "merged")
    torch.testing.assert_close(merged(ids).logits, load_assistant(final)[0](ids).logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="holds no adapter, so there is nothing to merge"):
        merge_with_receipt(tmp_path / "merged", tmp_path / "twice")


def test_bfloat16_weights_are_the_merged_ones_rounded_bit_by_bit(final, tmp_path):
    merge_with_receipt(final, tmp_path / "merged")
    receipt = merge_with_receipt(final, tmp_path / "rounded", stored_as="bfloat16")
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path / "rounded").state_dict()
    for name, weight in exact.items():
        assert rounded[name].dtype == torch.bfloat16
        assert torch.equal(rounded[name], weight.bfloat16())
    assert receipt.largest_difference <= 1e-4 and 0.9 < receipt.same_choice <= 1
    assert "stored as bfloat16, same choice at 9" in receipt.describe()


@pytest.mark.parametrize(("scale", "precision"), [(1.0, "float32"), (30.0, "float64"), (1e4, "float64")])
def test_rounding_of_the_arithmetic_is_told_from_a_wrong_merge(scale, precision, tmp_path):
    trainable = tuned("llama", tied=False, new_tokens=None)
    trainable.model.lm_head.weight.data *= scale  # large logits: float32 rounds them by more than the limit
    receipt = merge_with_receipt(save_run(trainable, tmp_path / "run"), tmp_path / "merged")
    assert receipt.compared_in == precision and receipt.largest_difference <= 1e-4 and receipt.same_choice == 1
    assert ("stored as float32, same choice at 100.0%" in receipt.describe()) == (precision == "float64")
    assert load_file(tmp_path / "merged" / "model.safetensors")["lm_head.weight"].dtype == torch.float32


def _merge_a_little_wrong(layer, *_arguments, **_options):
    layer.get_base_layer().weight.data += 1e-3


def test_a_merge_that_differs_is_refused_and_leaves_nothing(final, tmp_path, monkeypatch):
    monkeypatch.setattr(peft.tuners.lora.Linear, "merge", _merge_a_little_wrong)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"once merged its logits differ by \S+, expected at most 1e-04, so nothing"):
        merge_with_receipt(final, tmp_path / "merged")
    assert sorted(tmp_path.iterdir()) == before


def test_weights_that_are_others_once_read_back_are_refused(final, tmp_path, monkeypatch):
    load = AutoModelForCausalLM.from_pretrained

    def load_with_a_changed_bit(name, **options):
        found = load(name, **options)
        if ".merged.partial" in str(name):
            found[0].get_input_embeddings().weight.data[5, 0] += 1e-6
        return found

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_with_a_changed_bit)
    with pytest.raises(InputError, match="its merged weights are others once they are read back"):
        merge_with_receipt(final, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_that_cannot_be_merged_is_refused_in_one_line(tmp_path):
    trainable = tuned("llama", lora_bias=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        final = save_run(trainable, tmp_path / "run")
        with pytest.raises(InputError, match="cannot be merged") as refused:
            merge_with_receipt(final, tmp_path / "merged")
    assert "\n" not in str(refused.value) and not (tmp_path / "merged").exists()


def test_adapter_weights_that_are_no_numbers_are_refused(tmp_path):
    trainable = tuned()
    next(one for name, one in trainable.model.named_parameters() if "lora_B" in name).data[0, 0] = float("nan")
    final = save_run(trainable, tmp_path / "run")
    with pytest.raises(InputError, match="cannot be merged"):
        merge_with_receipt(final, tmp_path / "merged")


def test_a_folder_that_holds_something_is_not_written_over(final, tmp_path):
    (tmp_path / "merged").mkdir()
    merge_with_receipt(final, tmp_path / "merged")  # an empty one will do
    with pytest.raises(InputError, match="is not an empty folder: choose a new one"):
        merge_with_receipt(final, tmp_path / "merged")


def test_a_fully_tuned_run_has_nothing_to_merge(tmp_path):
    tokenizer = base_tokenizer()
    model = base_model("gpt2", tokenizer, tied=True)
    trainable = make_trainable_model(model, tokenizer, DOCUMENTS, new_tokens=3, lora=None)
    save_assistant(trainable.model, None, trainable.tokenizer, tmp_path / "final")
    with pytest.raises(InputError, match="holds no adapter"):
        merge_with_receipt(tmp_path / "final", tmp_path / "merged")


def test_the_newest_ids_are_compared_also_where_the_vocabulary_has_holes(tmp_path, monkeypatch):
    bpe = trained_runs._learned()
    holed = to_hf_tokenizer(bpe.ranks, {"<|endoftext|>": 290})  # 25 ids below it are nobody's
    monkeypatch.setattr(trained_runs, "base_tokenizer", lambda **_: holed)
    asked = []

    def probe_ids(vocabulary, positions):
        asked.append((vocabulary, positions))
        return usual(vocabulary, positions)

    usual = receipt_module.probe_ids
    monkeypatch.setattr(receipt_module, "probe_ids", probe_ids)
    trainable = tuned()
    merge_with_receipt(save_run(trainable, tmp_path / "run"), tmp_path / "merged")
    newest = max(trainable.tokenizer.get_vocab().values())
    assert asked == [(newest + 1, POSITIONS)] and newest >= len(trainable.tokenizer)
