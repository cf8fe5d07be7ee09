"""The card says what a model was made of and how to open it, and nothing of the machine that it was made on."""

import hashlib
import json

import pytest
import yaml
from huggingface_hub import ModelCardData

from finetune.evaluation.scoring import Scores
from finetune.evaluation.tables import to_markdown
from finetune.export.model_card import Comparison, public_name, write_merged_card, write_model_card
from tests.finetune.trained_runs import save_run, tuned

SETTINGS = {
    "base": "/home/somebody/models/small",
    "data": "/home/somebody/secret/chats.jsonl",
    "learning_rate": 0.003,
    "lora_options": {"use_dora": True},
    "output_dir": "/home/somebody/runs/sft-1",
    "corpus": None,
}
RECORD = {
    "versions": {"torch": "2.13.0"},
    "settings": SETTINGS,
    "data_sha256": "ab12",
    "base_sha256": "cd34",
    "machine": {"cores": 2},
}


def _scores(bits):
    figures = {
        "bits_per_byte": bits,
        "exact_match": 0.25,
        "answer_contained": 0.75,
        "stop_rate": 0.5,
        "repetition_rate": 0.125,
    }
    return Scores(**figures, conversations=8, checkable=4)


@pytest.fixture
def final(tmp_path):
    (tmp_path / "run" / "final" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text(json.dumps(RECORD))
    return tmp_path / "run" / "final"


def _card(final, base="/home/somebody/models/small", **options):
    write_model_card(
        final,
        title=f"sft-1: an assistant made from {public_name(base)}",
        base=base,
        comparison=Comparison(heading="Against its base", text=to_markdown(_scores(2.0), _scores(1.5))),
        facts={
            "base": base,
            "data": "/home/somebody/secret/chats.jsonl",
            "read": "1,000 chats of 2/3 of the file\n5 held out",
            "all": "run.json",
        },
        **options,
    )
    return (final / "README.md").read_text()


def test_the_card_holds_data_settings_hashes_and_the_table(final):
    card = _card(final)
    assert "| bits per byte" in card and "| 2.000 | 1.500 |" in card
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert settings == {
        "base": "small",
        "data": "chats.jsonl",
        "learning_rate": 0.003,
        "lora_options": {"use_dora": True},
        "corpus": None,
    }
    assert "- data: sha256 `ab12`\n- base: sha256 `cd34`\n" in card
    assert "- read: 1,000 chats of 2/3 of the file; 5 held out\n- versions: torch 2.13.0\n" in card


def test_the_card_names_the_file_of_the_adapter_by_its_hash(final):
    (final / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    assert f"- adapter: sha256 `{hashlib.sha256(b'weights').hexdigest()}`" in _card(final)


def test_the_card_names_no_folder_of_the_machine(final):
    assert "somebody" not in _card(final)


@pytest.mark.parametrize(("part", "library"), [("adapter", "peft"), ("weights", "transformers")])
def test_the_front_matter_is_what_the_hub_reads(final, part, library):
    (final / "adapter").rename(final / part)
    record = {"settings": {"data": "openai/gsm8k:main"}}
    front = yaml.safe_load(_card(final, "openai-community/gpt2", record=record).split("---\n")[1])
    assert ModelCardData(**front).to_dict() == front
    assert (front["base_model"], front["datasets"]) == ("openai-community/gpt2", ["openai/gsm8k"])
    assert front["library_name"] == library


def test_the_card_of_a_merged_model_opens_it_as_one_model(final, tmp_path):
    before = _card(final)
    write_merged_card(final, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "library_name: transformers" in card and "peft" not in card
    assert "receipt.json" in card and 'AutoModelForCausalLM.from_pretrained(".")' in card
    assert card.split("## Against its base")[1] == before.split("## Against its base")[1]
    front, merged_front = (yaml.safe_load(text.split("---\n")[1]) for text in (before, card))
    assert merged_front == {**front, "library_name": "transformers"}
    assert card.split("\n# ")[1].split("\n")[0] == before.split("\n# ")[1].split("\n")[0]


def test_what_a_person_adds_below_the_beginning_of_a_card_stays_once_merged(final, tmp_path):
    (final / "README.md").write_text(_card(final) + "\n## Thanks\n\nTo `peft`, and library_name: peft.\n")
    write_merged_card(final, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.endswith("## Thanks\n\nTo `peft`, and library_name: peft.\n")
    assert 'AutoModelForCausalLM.from_pretrained(".")' in card and "PeftModel" not in card


def test_where_no_card_of_ours_stands_above_an_adapter_there_is_none_once_merged(final, tmp_path):
    write_merged_card(final, tmp_path)
    (final / "README.md").write_text("# Of another project")
    write_merged_card(final, tmp_path)
    assert not (tmp_path / "README.md").exists()


@pytest.mark.parametrize("merged", [pytest.param(False, marks=pytest.mark.long), True])
def test_the_code_of_a_card_runs_in_its_folder(tmp_path, monkeypatch, merged, capsys):
    from finetune.export.receipt import merge_with_receipt

    final = save_run(tuned(), tmp_path / "run")
    _card(final)
    folder = final
    if merged:
        merge_with_receipt(final, folder := tmp_path / "merged")
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    exec(compile(code.replace("max_new_tokens=96", "max_new_tokens=4"), "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_a_sentence_and_a_name_of_the_hub_stay_what_they_are():
    assert [public_name(name) for name in ("a/b", "./a/b", "~/models/x", "x.jsonl")] == ["a/b", "b", "x", "x.jsonl"]
