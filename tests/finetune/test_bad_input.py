"""What a user can mend ends the entry process with status 2 and one line that names it; nothing is written."""

import json

import pytest
import torch

from finetune.compare import CompareSettings
from finetune.compare import main as compare
from finetune.new_rows import NewRowsSettings
from finetune.new_rows import main as train_new_rows
from finetune.sft import main as fine_tune
from finetune.supervised.settings import SftSettings
from scratch_models.loop import precision
from tests.finetune.entry_runs import SMALL, run_here, run_process
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.house.repository import ROOT
from tests.said_lines import without_progress

TWO_PROCESSES = ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml"
LAUNCH = ("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0", "--config_file")
GOOD = {"question": "1+1?", "answer": "2"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder with good data beside it."""
    write_questions(tmp_path / "good.jsonl")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def _refused(capsys, folder, main, schema, **settings):
    """The one line on stderr."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(SystemExit) as end:
        run_here(main, schema, **settings)
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.out == ""
    assert printed.err.endswith("\n") and without_progress(printed.err).count("\n") == 1, printed.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "nothing is written"
    return printed.err


def _messages(*messages):
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "data.jsonl: found 0 conversations"),
        ([json.dumps(GOOD), "{not json"], "data.jsonl:2: not JSON"),
        (
            [_messages(("observer", "a"), ("assistant", "b"))],
            "data.jsonl:1: messages[0].role is 'observer', expected one of system",
        ),
        ([json.dumps(GOOD), "", _messages(("user", "a"))], "data.jsonl:3: no assistant message (found user)"),
        ([_messages(("user", 5), ("assistant", "b"))], "data.jsonl:1: messages[0].content is a number, expected text"),
        ([json.dumps(GOOD)], "data.jsonl: 1 different questions are too few, expected at least 20"),
    ],
    ids=["empty", "no JSON", "unknown role", "no assistant", "content of another type", "too little"],
)
def test_data_that_cannot_be_used_is_refused(base, folder, capsys, lines, said):
    (folder / "data.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert said in _refused(capsys, folder, fine_tune, SftSettings, base=base, data=folder / "data.jsonl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "no-such.jsonl"}, "no-such.jsonl: no such file"),
        ({"data": "empty"}, "is a folder without a data file, expected files in .jsonl"),
        ({"learing_rate": 1e-3}, "learing_rate: no such setting, did you mean learning_rate?"),
        ({"learning_rate": -1e-3}, "learning_rate: found -0.001, expected a finite number above 0"),
        ({"learning_rate": ".nan"}, "learning_rate: found nan, expected a finite number above 0"),
        ({"learning_rate": "NaN"}, "learning_rate is 'NaN', expected float"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', expected float"),
        ({"learning_rate": "1e-4x"}, "learning_rate is '1e-4x', expected float"),
        ({"new_rows_learning_rate": -1.0}, "new_rows_learning_rate: found -1.0"),
        ({"new_rows_learning_rate": 1.0, "method": "full"}, "new_rows_learning_rate: with --method full"),
        ({"lora_rank": 0}, "lora_rank: found 0, expected at least 1"),
        ({"lora_rank": 33}, "lora_rank: found 33, expected 1 to 32, the smaller side of the smallest layer"),
        ({"lora_alpha": ".inf"}, "lora_alpha: found inf"),
        (
            {"lora_options.use_dorra": True},
            "lora_options: use_dorra: peft's LoraConfig has no such field, did you mean use_dora",
        ),
        ({"lora_options.use_dora": "maybe"}, "lora_options: use_dora is 'maybe', expected true or false"),
        ({"lora_options": "[1]"}, "--lora_options is '[1]', expected a mapping of names to values"),
        ({"lora_options.use_dora": True, "method": "full"}, "lora_options: with --method full there is no adapter"),
        ({"target_modules": "c_atn"}, "expected some of attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj"),
        ({"target_modules": "c_attn", "method": "full"}, "target_modules: with --method full there is no adapter"),
        ({"merge": True, "method": "full"}, "merge: with --method full there is no adapter"),
        (
            {"conversations_per_step": 32, "accumulation_steps": 3},
            "expected a multiple of 3 (1 process x 3 accumulation",
        ),
        ({"accumulation_steps": 0}, "accumulation_steps: found 0, expected at least 1"),
        ({"evaluation_replies": -1}, "evaluation_replies: found -1, expected 0 or more"),
        ({"packing": "sometimes"}, "packing is 'sometimes', expected one of auto, never, always"),
        ({"inspect": 0}, "inspect: found 0, expected the number of an example, from 1"),
        ({"inspect": 96}, "inspect: found 96, expected the number of an example, 1 to 95"),
        ({"push_to_hub": "not a name"}, "push_to_hub: found 'not a name', expected the name of a repository"),
        ({"log_with": "nothing"}, "log_with: found 'nothing', expected one of"),
        ({"method": "magic"}, "method is 'magic', expected one of lora, full"),
        ({"maximum_tokens": 5}, "maximum_tokens 5: none of 95 conversations fits"),
        ({"reply_tokens": 0}, "reply_tokens: found 0, expected at least 1"),
        ({"base": "/no/such/model"}, "/no/such/model: no such folder"),
        ({"base": "good.jsonl"}, "good.jsonl: is a file"),
        ({"corpus": "no-such.txt"}, "corpus no-such.txt: no such file"),
        ({"output_dir": "other"}, "output_dir other: holds another run"),
        ({"resume": True}, "resume: which run? name its folder with --output_dir"),
        ({"resume": True, "output_dir": "new"}, "output_dir new: no run.json"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_work_are_refused(base, folder, capsys, changes, said):
    (folder / "here" / "good.jsonl").write_bytes((folder / "good.jsonl").read_bytes())
    (folder / "here" / "empty").mkdir()
    (folder / "here" / "other").mkdir()
    (folder / "here" / "other" / "run.json").write_text("{}")
    settings = {"base": base, "data": folder / "good.jsonl", **changes}
    assert said in _refused(capsys, folder, fine_tune, SftSettings, **settings)


def test_bf16_is_refused_where_the_device_lacks_it_and_found_not_worth_it_by_auto(base, folder, capsys, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    settings = {"base": base, "data": folder / "good.jsonl"}
    said = _refused(capsys, folder, fine_tune, SftSettings, **settings, precision="bf16")
    assert "precision: found bf16, but cpu here has no bfloat16 arithmetic, expected fp32 or auto" in said
    assert precision.probe_precision(torch.device("cpu"), 8).faster == "fp32"


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("<<__import__('os').getcwd()=1>>", "is no arithmetic"),
        ("<<48/2=25>>", "<<48/2=25>> is wrong, the calculator gives 24"),
        ("<<9**9**9**9=1>>", ""),
    ],
)
def test_annotations_that_the_calculator_cannot_give_are_refused(base, folder, capsys, annotation, said):
    record = {"question": "Half of 48?", "answer": f"It is {annotation}24. #### 24"}
    with (folder / "good.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    settings = {"base": base, "data": folder / "good.jsonl", "calculator": True}
    line = _refused(capsys, folder, fine_tune, SftSettings, **settings)
    assert said in line and "good.jsonl:101" in line


def test_a_base_that_is_no_model_is_refused(base, folder, capsys):
    no_model = folder / "no-model"
    no_model.mkdir()
    settings = {"base": no_model, "data": folder / "good.jsonl"}
    assert "holds no config.json" in _refused(capsys, folder, fine_tune, SftSettings, **settings)
    (no_model / "config.json").write_text('{"model_type": "bert-of-nobody"}')
    for path in (*base.glob("tokenizer*"), *base.glob("*.safetensors")):
        (no_model / path.name).write_bytes(path.read_bytes())
    assert "no-model: no " in _refused(capsys, folder, fine_tune, SftSettings, **settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": "Why?", "data": "good.jsonl"}, "pass either --prompt TEXT"),
        ({}, "pass either --prompt TEXT"),
        ({"prompt": " "}, "prompt: is empty"),
        ({"prompt": "Why?", "temperature": -1}, "temperature"),
        ({"prompt": "Why?", "conversations": 0}, "conversations: found 0"),
        ({"prompt": "Why?"}, "no run.json in"),
        ({"prompt": "Why?", "base": "BASE", "tuned": "nowhere/at/all"}, "nowhere/at/all: no such folder"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(base, folder, capsys, changes, said):
    settings = {"tuned": base, **changes}
    settings |= {"base": base} if "base" in changes else {}
    assert said in _refused(capsys, folder, compare, CompareSettings, **settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "first_new_id: found None, expected an id from 1 to 319"),
        ({"first_new_id": 320}, "first_new_id: found 320"),
        ({"first_new_id": 300, "block_size": 97}, "block_size: found 97, expected at most the model's 96 positions"),
        ({"first_new_id": 300, "block_size": 5000}, "expected at least 5001 for one block of 5000"),
        ({"first_new_id": 300, "blocks_per_batch": 0}, "blocks_per_batch: found 0"),
        ({"first_new_id": 300, "corpus": "no-such.txt"}, "no-such.txt"),
    ],
)
def test_new_rows_that_cannot_be_trained_are_refused(base, folder, capsys, changes, said):
    settings = {"base": base, "corpus": folder / "good.jsonl", **changes}
    assert said in _refused(capsys, folder, train_new_rows, NewRowsSettings, **settings)


@pytest.mark.parametrize(
    "launch",
    [
        pytest.param((), id="python", marks=pytest.mark.long),
        pytest.param((*LAUNCH, str(TWO_PROCESSES)), id="two processes", marks=pytest.mark.long),
    ],
)
def test_the_line_is_printed_once_by_the_entry_process_and_by_a_launch(base, folder, launch):
    settings = {**SMALL, "base": base, "data": folder / "good.jsonl", "lora_rank": 33}
    ended = run_process("finetune/sft.py", folder / "here", launch=launch, **settings)
    assert ended.stderr.count("lora_rank: found 33") == 1 and ended.stdout == ""
    assert "Traceback" not in ended.stderr.split("lora_rank")[0]
    if not launch:
        assert (ended.returncode, without_progress(ended.stderr).count("\n")) == (2, 1)
    assert ended.returncode != 0 and list((folder / "here").iterdir()) == []


@pytest.mark.long
def test_a_line_that_is_no_json_is_named_by_the_entry_process(base, folder):
    (folder / "data.jsonl").write_text(json.dumps(GOOD) + "\n{\n")
    ended = run_process("finetune/sft.py", folder / "here", base=base, data=folder / "data.jsonl")
    assert (ended.returncode, ended.stdout, without_progress(ended.stderr).count("\n")) == (2, "", 1)
    assert "data.jsonl:2: not JSON" in ended.stderr
