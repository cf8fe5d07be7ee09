"""Every YAML file of settings is headed by its command and loads into the settings of that entry."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from configs import load_config
from configs.yaml_settings import read_settings
from tests.house.repository import ROOT, entry_schema

FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").glob("*.yaml"))

COMMAND = re.compile(
    r"# (?:accelerate launch (?:--config_file \S+ )?|python )(?:-m (?P<module>[\w.]+)|(?P<file>\S+\.py)) (?P<rest>.+)"
)


def _command(file: Path) -> tuple[Path, list[str]]:
    """The entry file and the arguments in the first line of a YAML file."""
    match = COMMAND.fullmatch((ROOT / file).read_text(encoding="utf-8").splitlines()[0])
    assert match, f"{file}: the first line is no command such as `# accelerate launch finetune/sft.py --config {file}`"
    entry = Path(match["file"] or match["module"].replace(".", "/") + ".py")
    return entry, shlex.split(match["rest"])


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_command_in_the_header_loads_the_file(file: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    entry, arguments = _command(file)
    assert f"--config {file}" in " ".join(arguments)
    load_config(entry_schema(entry), arguments)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_holds_only_what_differs_from_the_defaults(file: Path):
    entry, _ = _command(file)
    defaults = {field.name: field.default for field in dataclasses.fields(entry_schema(entry))}
    repeated = [setting.name for setting in read_settings(str(ROOT / file)) if setting.value == defaults[setting.name]]
    assert repeated == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_header_says_what_to_expect(file: Path):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("# "), f"{file}: the second line says what to expect of the run"
