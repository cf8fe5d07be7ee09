"""The recipe gives way to files, files to the command line; of settings that exclude each other one stays."""

from typing import Any

import pytest

from configs import InputError, load_config, run_entry
from configs.precedence import Recipe
from finetune.preference.settings import DpoSettings
from finetune.supervised.settings import SftSettings

DEMO = {
    "new_tokens": 500,
    "max_steps": 320,
    "learning_rate": 3e-3,
    "warmup_steps": 20,
    "lora_rank": 32,
    "lora_alpha": 64.0,
    "conversations_per_step": 32,
    "maximum_tokens": 512,
    "evaluation_conversations": 100,
    "reply_tokens": 96,
}


def _of(settings: Any, names: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in names}


def _file(tmp_path, text: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return f"--config={path}"


def test_the_demo_has_the_settings_that_it_always_had():
    assert _of(load_config(SftSettings, []), DEMO) == DEMO
    of_pairs = {"max_steps": 200, "warmup_steps": 20, "learning_rate": 1e-3, "pairs_per_step": 32, "lora_rank": 16}
    assert _of(load_config(DpoSettings, []), of_pairs) == of_pairs


@pytest.mark.parametrize("pairs", [["--base", "gpt2"], ["--data=chats.jsonl"], ["--base", "embedded"]])
def test_a_base_or_data_that_is_named_leaves_steps_rate_and_new_tokens_to_be_chosen(pairs):
    for schema in (SftSettings, DpoSettings):
        settings = load_config(schema, pairs)
        assert settings.max_steps is settings.learning_rate is settings.warmup_steps is None
    assert load_config(SftSettings, pairs).wanted_tokens == 0


def test_a_base_that_a_file_names_counts_too(tmp_path):
    assert load_config(SftSettings, [_file(tmp_path, "base: gpt2\n")]).learning_rate is None
    assert load_config(SftSettings, [_file(tmp_path, "lora_rank: 8\n")]).learning_rate == 3e-3


def test_what_a_user_says_wins_over_the_recipe():
    settings = load_config(SftSettings, ["--learning_rate", "0.01", "--max_steps", "7"])
    assert (settings.learning_rate, settings.max_steps, settings.lora_rank) == (0.01, 7, 32)


@pytest.mark.parametrize(("given", "taken_back"), [("epochs", "max_steps"), ("warmup_share", "warmup_steps")])
def test_a_later_source_takes_back_what_excludes_it(given, taken_back, tmp_path):
    settings = load_config(SftSettings, [f"--{given}", "0.5"])  # the recipe gives steps
    assert getattr(settings, given) == 0.5 and getattr(settings, taken_back) is None
    settings = load_config(SftSettings, ["--base", "b", _file(tmp_path, f"{taken_back}: 9\n"), f"--{given}=0.5"])
    assert getattr(settings, given) == 0.5 and getattr(settings, taken_back) is None
    settings = load_config(SftSettings, ["--base", "b", _file(tmp_path, f"{given}: 0.5\n"), f"--{taken_back}", "9"])
    assert getattr(settings, given) is None and getattr(settings, taken_back) == 9


def test_both_from_one_source_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"max_steps and epochs: found both \(9 and 2\.0\), expected one"):
        load_config(SftSettings, ["--max_steps", "9", "--epochs", "2"])
    with pytest.raises(InputError, match="warmup_steps and warmup_share: found both"):
        load_config(DpoSettings, ["--base", "b", _file(tmp_path, "warmup_steps: 3\nwarmup_share: 0.1\n")])


@pytest.mark.parametrize("wrong", ["--epochs=0", "--epochs=.inf", "--warmup_share=1", "--warmup_share=-0.1"])
def test_a_length_that_is_none_is_refused(wrong):
    with pytest.raises(InputError, match=r"(epochs|warmup_share): found .*, expected"):
        load_config(SftSettings, ["--base", "b", wrong])


def test_a_corpus_that_is_named_without_a_number_means_500_tokens_and_zero_means_none():
    assert load_config(SftSettings, ["--base", "b", "--corpus", "field.txt"]).wanted_tokens == 500
    assert load_config(SftSettings, ["--base", "b", "--corpus", "field.txt", "--new_tokens", "0"]).wanted_tokens == 0


def test_the_entry_says_which_recipe_it_takes(monkeypatch, capsys):
    line = Recipe("sft_embedded.yaml", ("base", "data")).describe()
    for pairs, said in ([], [line]), (["--base", "gpt2"], []):
        monkeypatch.setattr("sys.argv", ["sft.py", *pairs])
        run_entry(lambda settings: None, SftSettings)
        assert capsys.readouterr().out.splitlines() == said
