"""Settings come from YAML and the command line with their types; what the user can mend is one line."""

import os
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest

from configs import InputError, MissingInput, load_config, run_entry


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings that stand for those of any entry."""

    checkpoint: str
    """Folder of the model."""
    learning_rate: float = 1e-3
    """Peak rate, in units of the parameters per step."""
    max_steps: int = 100
    """Optimizer steps."""
    base: str | None = None
    """Hub name or folder."""
    method: Literal["lora", "full"] = "lora"
    """What is trained."""
    stop_words: tuple[str, ...] = ()
    """Words that end a reply."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options that a library takes, by name."""
    layers: str | list[str] | None = None
    """One name or several."""
    dry_run: bool = False
    """Print the settings and stop."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}, expected more than 0, pass --learning_rate 1e-3")


def _load(*pairs: str) -> TrainSettings:
    return load_config(TrainSettings, ["--checkpoint", "model", *pairs])


@pytest.fixture
def yaml_file(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_defaults_are_those_of_the_dataclass():
    assert _load() == TrainSettings(checkpoint="model")


def test_the_type_of_a_field_decides_how_a_word_is_read():
    settings = _load("--base", "12", "--stop_words", "[a, b]", "--learning_rate", "1", "--method=full")
    assert settings == TrainSettings(
        checkpoint="model", base="12", stop_words=("a", "b"), learning_rate=1.0, method="full"
    )
    assert isinstance(settings.learning_rate, float)


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1E-04"])
def test_yaml_numbers_with_an_exponent_are_floats(yaml_file, text):
    assert _load("--config", yaml_file(f"learning_rate: {text}\n")).learning_rate == 1e-4


def test_the_command_line_wins_over_the_file_in_whatever_order(yaml_file):
    file = yaml_file("max_steps: 7\nlearning_rate: 0.5\n")
    expected = TrainSettings(checkpoint="model", max_steps=8, learning_rate=0.5)
    assert _load("--config", file, "--max_steps", "8") == expected
    assert _load("--max_steps", "8", f"--config={file}") == expected


def test_a_later_file_wins_over_an_earlier_one(yaml_file, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("max_steps: 9\n")
    assert _load("--config", yaml_file("max_steps: 7\n"), "--config", str(later)).max_steps == 9


@pytest.mark.parametrize("pairs", [["--dry_run"], ["--dry_run", "true"], ["--dry_run=true"]])
def test_a_bare_flag_is_true(pairs):
    assert _load(*pairs, "--max_steps", "3").dry_run
    assert not _load("--dry_run", "false").dry_run


def test_inherited_fields_are_settings_like_any_other():
    @dataclass(frozen=True, kw_only=True)
    class LongSettings(TrainSettings):
        """Settings that add one."""

        seed: int = 0
        """Start of every random number."""

    assert load_config(LongSettings, ["--checkpoint", "model", "--seed", "3", "--max_steps", "4"]).max_steps == 4


def test_null_unsets_an_optional_field(yaml_file):
    assert _load("--config", yaml_file("base: x\n"), "--base", "null").base is None


def test_a_mapping_is_set_key_by_key_or_as_a_whole(yaml_file):
    by_key = ("--options.use_dora", "true", "--options.rate=1e-4", "--options.start", "pissa")
    assert _load(*by_key).options == {"use_dora": True, "rate": 1e-4, "start": "pissa"}
    assert _load("--options", "{use_dora: true, rate: 1e-4, start: pissa}") == _load(*by_key)
    assert _load("--options.use_dora", "--options.rate", "-1", "--options.start").options == {
        "use_dora": True,
        "rate": -1,
        "start": True,
    }
    file = yaml_file("options:\n  use_dora: false\n  pattern: {c_attn: 3}\n")
    together = _load("--options.use_dora", "true", "--config", file).options
    assert together == {"use_dora": True, "pattern": {"c_attn": 3}}


def test_every_settings_object_has_a_mapping_of_its_own():
    assert _load().options == {} and _load().options is not _load().options


@pytest.mark.parametrize("given", [("c_attn", "c_attn"), ("[c_attn, c_fc]", ["c_attn", "c_fc"]), ("null", None)])
def test_one_name_or_a_list_of_names(given, yaml_file):
    text, expected = given
    assert _load("--layers", text).layers == expected == _load("--config", yaml_file(f"layers: {text}\n")).layers


def test_negative_numbers_with_an_exponent_are_values():
    with pytest.raises(InputError, match=r"^learning_rate is -0.0001, expected more than 0"):
        _load("--learning_rate", "-1e-4")


COMMAND_LINE_ERRORS = {
    ("--learing_rate", "1"): "learing_rate: no such setting, did you mean learning_rate? (run with --help to see all)",
    ("--learning-rate=1",): "learning-rate: no such setting, did you mean learning_rate? (run with --help to see all)",
    ("--max", "3"): "max: no such setting, did you mean max_steps? (run with --help to see all)",
    ("--model", "x"): "model: no such setting, did you mean base? (run with --help to see all)",
    ("--colour", "1"): "colour: no such setting, there are checkpoint, learning_rate, max_steps, base, method, "
    "stop_words, options, layers, dry_run, config, help",
    ("--conf", "a.yaml"): "conf: no such setting, did you mean config? (run with --help to see all)",
    ("--learning_rate", "1e-4x"): "--learning_rate is '1e-4x', expected float",
    ("--max_steps", "1.5"): "--max_steps is '1.5', expected int",
    ("--max_steps", "null"): "--max_steps is 'None', expected int",
    ("--max_steps", "true"): "--max_steps is 'True', expected int",
    ("--method", "qlora"): "--method is 'qlora', expected one of lora, full",
    ("--dry_run", "maybe"): "--dry_run is 'maybe', expected bool",
    ("--stop_words", "a"): "--stop_words is 'a', expected tuple[str, ...]",
    ("--base",): "--base: expected one argument",
    ("--options", "[1]"): "--options is '[1]', expected a mapping of names to values",
    ("--options.", "1"): "options.: no such setting, did you mean options? (run with --help to see all)",
    ("--option.a", "1"): "option.a: no such setting, did you mean options? (run with --help to see all)",
    ("--max_steps.a", "1"): "max_steps.a: no such setting, did you mean max_steps? (run with --help to see all)",
    ("--config",): "--config: expected one argument, the path of a YAML file",
    ("extra",): "extra: belongs to no setting, expected pairs of --field value (run with --help to see all)",
}


@pytest.mark.parametrize("pairs", COMMAND_LINE_ERRORS)
def test_errors_on_the_command_line_name_the_field_and_what_was_expected(pairs):
    with pytest.raises(InputError) as error:
        _load(*pairs)
    assert str(error.value) == COMMAND_LINE_ERRORS[pairs]


def test_a_required_setting_is_asked_for():
    with pytest.raises(InputError, match=r"^--checkpoint: required, pass a value"):
        load_config(TrainSettings, [])


FILE_ERRORS = {
    "learing_rate: 1\n": ":1: learing_rate: no such setting, did you mean learning_rate? (run with --help to see all)",
    "config: other.yaml\n": ":1: config: no such setting, there are checkpoint, learning_rate, max_steps, base, "
    "method, stop_words, options, layers, dry_run",
    "# header\n\nlearning_rate: 1e-4x\n": ":3: learning_rate is '1e-4x', expected float",
    "max_steps: true\n": ":1: max_steps is True, expected int",
    "base: x\nmax_steps:\n": ":2: max_steps is None, expected int",
    "base: 12\n": ":1: base is 12, expected str or null",
    "method: qlora\n": ":1: method is 'qlora', expected one of lora, full",
    "max_steps: 1\nbase: x\nmax_steps: 2\n": ":3: max_steps stands in line 1 as well, keep one of them",
    "base: x\noptions:\n  a: 1\n  b: {c: 1, c: 2}\n": ":4: c stands in line 4 as well, keep one of them",
    "base: x\noptions:\n": ":2: options is None, expected a mapping of names to values",
    "options.a: 1\n": ":1: options.a: no such setting, did you mean options? (run with --help to see all)",
    "layers: {a: 1}\n": ":1: layers is {'a': 1}, expected str or list[str] or null",
    "- max_steps\n": ": holds a list, expected lines of `field: value` in plain YAML",
    "max_steps\n": ": holds a single value, expected lines of `field: value` in plain YAML",
    "max_steps:\n": ": holds a name without a value, expected lines of `field: value` in plain YAML",
    "": ": holds no setting, expected lines of `field: value` in plain YAML",
    "# only a comment\n": ": holds no setting, expected lines of `field: value` in plain YAML",
}


@pytest.mark.parametrize("text", FILE_ERRORS)
def test_errors_in_a_file_name_the_line(yaml_file, text):
    file = yaml_file(text)
    with pytest.raises(InputError) as error:
        _load("--config", file)
    assert str(error.value) == file + FILE_ERRORS[text]


@pytest.mark.parametrize("text", ["base: [1,\n", "a: b: c\n", "base: !!python/object/apply:os.getcwd []\n", "\t- x\n"])
def test_what_is_no_plain_yaml_is_refused_with_the_file_named(yaml_file, text):
    file = yaml_file(text)
    with pytest.raises(InputError) as error:
        _load("--config", file)
    assert str(error.value).startswith(f"{file}:")
    assert str(error.value).endswith(", expected lines of `field: value` in plain YAML")
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_and_bytes_are_refused(tmp_path):
    with pytest.raises(MissingInput, match=r"none.yaml: no such file, expected a YAML file after --config"):
        _load("--config", str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="not readable as UTF-8 text"):
        _load("--config", str(tmp_path))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as UTF-8 text"):
        _load("--config", str(tmp_path / "bytes.yaml"))


def test_help_shows_every_field_with_its_docstring_and_default(capsys):
    with pytest.raises(SystemExit) as leave:
        load_config(TrainSettings, ["--help"], command="python -m tests.train")
    shown = " ".join(capsys.readouterr().out.split())
    assert leave.value.code == 0
    assert shown.startswith("usage: python -m tests.train [--config FILE.yaml] [--field value ...]")
    assert all(f"--{field.name} " in shown for field in fields(TrainSettings))
    assert "Peak rate, in units of the parameters per step. (type: float, default: 0.001)" in shown


ENTRY = """
import sys
from dataclasses import dataclass
from configs import InputError, run_entry

@dataclass(frozen=True, kw_only=True)
class EntrySettings:
    '''Settings of an entry.'''
    ending: str = "well"
    '''How it ends.'''

def main(settings):
    endings = {"input": InputError("line one,\\n line two"), "interrupt": KeyboardInterrupt(), "bug": ValueError("bug")}
    if settings.ending in endings:
        raise endings[settings.ending]
    print("done")

if __name__ == "__main__":
    run_entry(main, EntrySettings)
"""


def _run(tmp_path: Path, *pairs: str, **environment: str) -> subprocess.CompletedProcess:
    script = tmp_path / "entry_of_test.py"
    script.write_text(ENTRY)
    inherited = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    return subprocess.run(
        [sys.executable, str(script), *pairs], capture_output=True, text=True, env={**inherited, **environment}
    )


def test_an_entry_that_ends_well_has_status_0(tmp_path):
    ended = _run(tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("pairs", "status", "line"),
    [
        (["--ending", "input"], 2, "line one, line two\n"),
        (["--endng", "x"], 2, "endng: no such setting, did you mean ending? (run with --help to see all)\n"),
        (["--ending", "interrupt"], 130, "interrupted\n"),
    ],
)
def test_an_entry_prints_one_line_and_leaves_with_a_status(tmp_path, pairs, status, line):
    ended = _run(tmp_path, *pairs)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", line)


@pytest.mark.parametrize("environment", [{"RANK": "1"}, {"LOCAL_RANK": "1"}, {"RANK": "2", "LOCAL_RANK": "0"}])
def test_only_the_main_process_prints(tmp_path, environment):
    ended = _run(tmp_path, "--ending", "input", **environment)
    assert (ended.returncode, ended.stderr) == (2, "")


def test_a_bug_is_one_line_with_its_place_and_a_flag_shows_its_traceback(tmp_path):
    ended = _run(tmp_path, "--ending", "bug", RANK="1")
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "a fault of the program" in ended.stderr and "ValueError: bug (entry_of_test.py:15)" in ended.stderr
    for ending, status in (("bug", 1), ("input", 2)):
        ended = _run(tmp_path, "--traceback", "--ending", ending)
        assert ended.returncode == status
        assert ended.stderr.startswith("Traceback") and "in main" in ended.stderr


def test_run_entry_hands_the_settings_to_main(monkeypatch):
    received: list[TrainSettings] = []
    monkeypatch.setattr(sys, "argv", ["train.py", "--checkpoint", "model", "--max_steps", "5"])
    run_entry(received.append, TrainSettings)
    assert received == [TrainSettings(checkpoint="model", max_steps=5)]


@pytest.mark.parametrize(
    ("arguments", "layers"),
    {
        "--layers a": "a",
        "--layers a b:2": ["a", "b:2"],
        "--layers a b --layers c": "c",
        "--layers a --layers b c": ["b", "c"],
        "--layers a b --layers=c": "c",
        '--layers ["a","b"]': ["a", "b"],
    }.items(),
)
def test_a_setting_that_may_be_a_list_takes_several_values(arguments, layers):
    read = load_config(TrainSettings, ["--checkpoint", "x", *arguments.split(), "--max_steps", "3"])
    assert (read.layers, read.max_steps) == (layers, 3)
