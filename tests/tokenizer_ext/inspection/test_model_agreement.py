"""What is said of whether a model's parts agree: of published ones, of the packaged chat model, of planted faults."""

import json
from pathlib import Path

import pytest
from transformers import GenerationConfig

from tests.finetune.tiny_models import save_tiny_base
from tests.real_tokenizers import real_model, smollm2_folder
from tokenizer_ext.audit import AuditSettings, main
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.inspection.model_agreement import Agreement, find_agreement


def found(folder: Path) -> Agreement:
    return find_agreement(str(folder), load_tokenizer(str(folder)), load_model(str(folder), dtype="auto"))


def test_of_the_real_chat_model_the_missing_bytes_are_named_and_the_rest_agrees():
    agreement = found(smollm2_folder())
    missing = bytes.fromhex("04 06 13 14 16 1d c0 c1 f1 f2 f5 f6 f7 f8 f9 fa fb fc fd fe ff")
    assert (agreement.differing, agreement.missing_bytes) == (0, list(missing))
    assert (agreement.turn_ends_with, agreement.turn_end_id) == ("<|im_end|>", 2) and 2 in agreement.stop_ids


@pytest.mark.long
def test_what_autotokenizer_changes_of_llama_2_is_found_with_an_example(tmp_path):
    """Transformers 5 builds a Llama tokenizer anew, so that a run of spaces comes to other ids than by the file."""
    agreement = found(real_model("llama2", tmp_path))
    assert agreement.differing > 0
    assert any(one.text.isspace() and one.file_ids != one.loaded_ids for one in agreement.examples)
    assert "AutoTokenizer changes" in agreement.describe() and agreement.missing_bytes == []


def test_planted_faults_are_named(tmp_path):
    base = save_tiny_base(tmp_path)
    model, tokenizer = load_model(str(base)), load_tokenizer(str(base))
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|stop|>{% endfor %}"
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|stop|>"]})
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    agreement = find_agreement(str(base), tokenizer, model)
    ids, rows = len(tokenizer), model.get_input_embeddings().num_embeddings
    assert ids == rows + 1
    said = agreement.describe()
    assert f"ids {rows} to {ids - 1} have no row" in said
    assert f"the template writes '<|stop|>' (id {ids - 1}), and replies end at [{tokenizer.eos_token_id}]" in said
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert "does not render two messages" in find_agreement(str(base), tokenizer, model).describe()


@pytest.mark.long
def test_the_command_writes_what_it_found_for_a_family_whose_tokens_it_does_not_sort(tmp_path, capsys):
    model, out = real_model("gemma3", tmp_path / "model"), tmp_path / "out"
    main(AuditSettings(model=str(model), output_dir=str(out)))
    assert "tokens: not sorted into kinds" in capsys.readouterr().out
    assert json.loads((out / "agreement.json").read_text())["rows"] == 262_208
