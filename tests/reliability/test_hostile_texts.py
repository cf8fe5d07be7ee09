"""Names, settings and templates made to do harm: one line, or shown as the text that they are."""

import shutil
from pathlib import Path

import pytest

from configs import InputError
from configs.yaml_settings import read_settings
from finetune.export.final_folder import save_assistant
from finetune.export.model_card import Comparison, write_model_card
from finetune.sft import main as fine_tune
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.said_lines import without_progress
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.foreign.template_trial import save_tokenizer
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
MEMORY = "{% set x = 'x' * 10**9 %}{{ x }}"
BOMBS = {
    LOOP: "does not end within 3 seconds of work",
    MEMORY: "takes more than 512 MB of memory",
    "{% for i in range(99999) %}{{ 'a' * 999 }}{% endfor %}": "writes more than 1,000,000 characters",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(base, tmp_path, monkeypatch) -> Path:
    """A current folder of one's own, with data and a base."""
    shutil.copytree(base, tmp_path / "base")
    write_questions(tmp_path / "data.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"output_dir": ""}, "output_dir: found '', expected the name of a file or folder"),
        ({"output_dir": "a\udce9b"}, "half a character, expected text in UTF-8"),
        ({"data": "a\udce9b"}, "half a character, expected text in UTF-8"),
        ({"output_dir": "a\0b"}, "holds the character NUL"),
        ({"output_dir": 256 * "n"}, "File name too long"),
        ({"data": 256 * "n"}, "File name too long"),
        ({"base": 256 * "n"}, "File name too long"),
        ({"base": 50 * (100 * "n" + "/")}, "File name too long"),
        ({"lora_options.megatron_core": "evil"}, "lora_options: megatron_core cannot be used here"),
        ({"lora_options.megatron_config": "{a: 1}"}, "lora_options: megatron_config cannot be used here"),
        ({"lora_options.use_evil": "1"}, "peft's LoraConfig has no such field"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_name_that_no_file_can_have_is_one_line(folder, capsys, settings, said):
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as end:
        run_here(fine_tune, SftSettings, **{"base": "base", "data": "data.jsonl", "max_steps": 1, **settings})
    line = without_progress(capsys.readouterr().err)
    assert (end.value.code, line.count("\n")) == (2, 1) and said in line, line
    assert sorted(folder.rglob("*")) == before, "nothing is written"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base: " + 5000 * "[" + 5000 * "]", ":1: is nested more than 20 deep"),
        ("\n".join(f"{n * ' '}a{n}:" for n in range(5000)), ":21: is nested more than 20 deep"),
        ("base: &a [*a]", ":1: holds *a, which stands for another value"),
        ("a: &a [x]\nb: &b [*a, *a]\nbase: [*b, *b]", ":2: holds *a, which stands for another value"),
        ("base: !!python/object/apply:os.mkdir [ran]", "could not determine a constructor for the tag"),
        ("base: !!python/name:os.system", "could not determine a constructor for the tag"),
        ("- &a [*a]", ":1: holds *a"),
    ],
)
def test_a_hostile_yaml_file_is_one_line(folder, text, said):
    (folder / "x.yaml").write_text(text)
    with pytest.raises(InputError) as refused:
        read_settings("x.yaml")
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("template", BOMBS, ids=BOMBS.values())
def test_a_template_that_runs_away_is_not_saved(base, tmp_path, template):
    tokenizer = load_tokenizer(str(base))
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=f"chat template of .*: {BOMBS[template]}"):
        save_tokenizer(tokenizer, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_template_that_no_chat_asked_for_is_tried_before_it_travels(folder):
    (folder / "base" / "chat_template.jinja").write_text(MEMORY)
    extended = extend_vocabulary("base", corpus=["It is a red house. " * 300], new_tokens=2)
    tokenizer = load_tokenizer("base")
    ways = (
        lambda: extended.save("made"),
        lambda: save_assistant(load_model("base"), None, tokenizer, Path("made"), own_stops=[1]),
    )
    for save in ways:
        with pytest.raises(InputError, match="takes more than 512 MB of memory"):
            save()
        assert not Path("made").exists()


def test_names_in_a_card_are_shown_and_do_nothing(tmp_path):
    evil = "x<img src=y onerror=alert(1)>![a](http://evil)"
    write_model_card(
        tmp_path,
        title=f"made from {evil}",
        base=evil,
        comparison=Comparison(heading="Against its base", text="none\n"),
        facts={"base": evil},
        record={"settings": {"base": evil, "system": "a ```\n</code><script>alert(1)</script>"}, "versions": {}},
    )
    outside, fence, inside = (tmp_path / "README.md").read_text().partition("````yaml")
    assert fence and "<img" not in outside and "![a](" not in outside and "&lt;img" in outside
    assert "````\n\n## Hashes" in inside and "````" not in inside.partition("````\n\n## Hashes")[0]
