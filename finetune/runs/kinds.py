"""The kinds of jobs: which entry each one starts and how, and what the queue sets in its settings."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from configs import InputError
from configs.arguments import name_first, split_files
from configs.entry import check_settings, load_config
from configs.precedence import overridden
from configs.yaml_settings import read_settings
from finetune.runs.job_files import settings_text

CPU = "cpu"
"""How the devices begin that are none: a run on `cpu` or `cpu-1` sees no GPU."""
LAUNCH_FILES = Path(sys.modules["configs"].__file__ or "").parent / "accelerate"


@dataclass(frozen=True)
class Kind:
    """A kind of job."""

    module: str
    """The entry, as `python -m` takes it."""
    schema_place: str
    """Module and class of its settings, with a colon between."""
    trains: bool = False
    """Whether it goes through `accelerate launch`, saves checkpoints, and can be paused and resumed."""
    result: str = "output_dir"
    """The setting that is the place of what it leaves."""
    result_file: str = ""
    """The file in the run's folder that this setting names; empty where it is the folder itself."""
    result_with: str = ""
    """The setting without which the entry writes no result."""

    @property
    def schema(self) -> type:
        """The class of its settings, imported when it is asked for; nothing heavy comes with it."""
        module, name = self.schema_place.split(":")
        schema: type = getattr(importlib.import_module(module), name)
        return schema

    @property
    def set_by_queue(self) -> tuple[str, ...]:
        """Settings that no caller may give."""
        return (self.result, "resume") if self.trains else (self.result,)

    def plain(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as JSON can hold them.

        Raises:
            InputError: one of them is the queue's to set.

        """
        for name in self.set_by_queue:
            if name in settings:
                raise InputError(f"{name}: is set by the queue, leave it out")
        return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}

    def checked(self, settings: Mapping[str, Any], output_dir: Path) -> dict[str, Any]:
        """The settings with the place of the result, held to what the entry expects.

        Raises:
            InputError: what the entry would refuse.

        """
        started_with = {**settings, **self.place_of_result(output_dir, settings)}
        check_settings(self.schema, **started_with)
        return started_with

    def command(self, settings_file: Path, *, device: str, resume: bool, launched: bool) -> list[str]:
        """What starts it; with `resume`, so that it goes on from its last checkpoint.

        What trains is `launched` by accelerate, with the launch file of the device, unless somebody else launches it.
        """
        rest = ["--config", str(settings_file), *(["--resume"] if resume else [])]
        if not (self.trains and launched):
            return [sys.executable, "-m", self.module, *rest]
        launch_file = LAUNCH_FILES / ("one_cpu.yaml" if device.startswith(CPU) else "one_gpu.yaml")
        launcher = ["-m", "accelerate.commands.launch", "--quiet", "--config_file", str(launch_file), "--module"]
        return [sys.executable, *launcher, self.module, *rest]

    def place_of_result(self, output_dir: Path, settings: Mapping[str, Any]) -> dict[str, str]:
        """The setting that says where the result goes; none where these settings leave no result.

        >>> KINDS["merge"].place_of_result(Path("run"), {"tuned": "runs/sft-1"})
        {'output_dir': 'run'}
        >>> KINDS["compare"].place_of_result(Path("run"), {"prompt": "1+1?"})
        {}
        """
        if self.result_with and settings.get(self.result_with) is None:
            return {}
        return {self.result: str(output_dir / self.result_file)}


KINDS = {
    "sft": Kind("finetune.sft", "finetune.supervised.settings:SftSettings", trains=True),
    "dpo": Kind("finetune.dpo", "finetune.preference.settings:DpoSettings", trains=True),
    "new_rows": Kind("finetune.new_rows", "finetune.rows.settings:NewRowsSettings", trains=True),
    "pretrain": Kind("finetune.pretrain", "finetune.pretraining.settings:PretrainSettings", trains=True),
    "gist": Kind("finetune.gist", "finetune.gisting.settings:GistSettings", trains=True),
    "train": Kind("scratch_models.train", "scratch_models.train_settings:TrainSettings", trains=True),
    "extend": Kind("tokenizer_ext.extend", "tokenizer_ext.extend:ExtendSettings"),
    "merge": Kind("finetune.merge", "finetune.merge:MergeSettings"),
    "compare": Kind(
        "finetune.compare",
        "finetune.compare:CompareSettings",
        result="output",
        result_file="comparison.json",
        result_with="data",
    ),
    "inspect_data": Kind(
        "finetune.inspect_data",
        "finetune.inspect_data:InspectSettings",
        result="output",
        result_file="findings.json",
    ),
    "red_team": Kind("finetune.red_team", "finetune.red_team:RedTeamSettings"),
}


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        InputError: there is none.

    """
    if name not in KINDS:
        raise InputError(f"kind: found {name!r}, expected one of {', '.join(KINDS)}")
    return KINDS[name]


def given_fields(kind: str, arguments: Sequence[str], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings that a command line and its YAML files give of an entry, with their types and without its defaults.

    Where a job with the settings `before` is changed, what is given takes the place of theirs.

    Raises:
        InputError: what the entry would refuse of them.

    """
    schema, queues_own = kind_of(kind).schema, kind_of(kind).set_by_queue
    files, pairs = split_files(arguments)
    pairs = name_first(schema, pairs)
    names = {one.removeprefix("--").partition("=")[0].partition(".")[0] for one in pairs if one.startswith("--")}
    names |= {setting.name for file in files for setting in read_settings(file)}
    if refused := sorted(names & set(queues_own)):
        raise InputError(f"{', '.join(refused)}: is set by the queue, leave it out")
    with TemporaryDirectory() as folder:
        old = Path(folder) / "settings.yaml"
        old.write_text(settings_text(before or {}), encoding="utf-8")
        if before:
            files = [str(old), *files]
        command = [*(f"--config={file}" for file in files), *pairs]
        place = ["--output_dir", str(Path(folder) / "run")] if queues_own[0] == "output_dir" else []
        found: Any = load_config(schema, [*command, *place], command=f"python -m finetune.runs queue {kind}")
        taken_back = overridden(schema, files, pairs)
    return {name: None if name in taken_back else getattr(found, name) for name in sorted(names | taken_back)}
