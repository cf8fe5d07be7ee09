"""The folder that a run leaves: `run.json`, `metrics.jsonl`, `checkpoints/`, `final/` and the report."""

import importlib.metadata
import itertools
import json
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import InputError, MissingInput
from configs.one_line_ending import is_main_process
from configs.whole_folder import write_whole
from scratch_models.launch.folder_lock import LOCK, hold_folder, refuse_held
from scratch_models.launch.metrics_file import append_metrics, drop_metrics_after, read_metrics
from scratch_models.launch.record_file import RECORD, read_record
from scratch_models.launch.run_files import check_run_files

RUNS = Path("runs")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "tiktoken", "safetensors")
LEFTOVERS = {LOCK, f".{RECORD}.partial"}
"""What a run leaves in its folder that was killed before it had a record."""
MAY_DIFFER_ON_RESUME = {
    "resume",
    "dry_run",
    "output_dir",
    "log_with",
    "epochs",
    "warmup_share",
    "data",
    "checkpoints_kept",
}
"""Epochs and shares are compared as the steps that they come to, data by its sha256 and not by its name."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run, and what is written to them."""

    path: Path
    numbered: bool = False
    """Whether the name was chosen by counting, so that another number will do where this one is taken."""

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Where the best weights are kept until the end of the run."""
        return self.path / "best"

    @property
    def final(self) -> Path:
        """Where the finished model goes."""
        return self.path / "final"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    def record(self) -> dict[str, Any]:
        """What `run.json` holds: the settings, the versions, and what the run is made of.

        Raises:
            InputError: there is none, or it is not what a run wrote.

        """
        return read_record(self.path)

    def start(self, settings: Mapping[str, Any], facts: Mapping[str, Any], *, resume: bool) -> "RunFolder":
        """Makes the folder and writes `run.json`: settings, versions and the facts given.

        To resume, it checks instead that what the run is made of (each fact `<what>_sha256`) is still the same. Returns
        the folder, which has another number where a run beside this one has just taken it.

        Raises:
            InputError: data, base or tokenizer are not those that the run was started with, or another process writes
                into the folder.

        """
        if resume:
            hold_folder(self.path)
            _refuse_other_inputs(self.path, facts)
            return self
        run = self._make()
        hold_folder(run.path)
        _refuse_taken(run.path)  # another may have been faster before this one held it
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        record = {"settings": settings, "command": sys.argv, "versions": versions, "machine": machine, **facts}
        record |= {"manifests": True}  # final/ and merged/ have one, as `configs/manifest.py` holds them to
        write_whole(run.path / RECORD, json.dumps(record, indent=2, default=str) + "\n")
        return run

    @property
    def questions_asked(self) -> int | None:
        """How many questions the base was asked; None where the run has not come so far."""
        return self.record().get("questions_asked")

    def note(self, **facts: Any) -> None:
        """Adds facts to `run.json` that are known only once the run is under way."""
        write_whole(self.path / RECORD, json.dumps({**self.record(), **facts}, indent=2, default=str) + "\n")

    def _make(self) -> "RunFolder":
        try:
            if self.numbered:
                return self._take_number()
            _refuse_taken(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"output_dir {self.path}: cannot be made ({error.strerror}): choose another folder"
            ) from error
        return self

    def _take_number(self) -> "RunFolder":
        name, _, number = self.path.name.rpartition("-")
        for attempt in itertools.count(int(number)):
            run = RunFolder(self.path.with_name(f"{name}-{attempt}"))
            with suppress(FileExistsError):
                run.path.mkdir(parents=True)
                break
        return run

    def append_metrics(self, entry: Mapping[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`."""
        append_metrics(self.metrics, entry)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`, without those that are damaged."""
        return read_metrics(self.metrics).entries

    def drop_metrics_after(self, step: int) -> None:
        """Takes back the lines of steps that a resumed run will do again, and says what of the others is damaged."""
        if damage := drop_metrics_after(self.metrics, step):
            print(damage, flush=True)


def choose_run_folder(output_dir: str | None, name: str, settings: Mapping[str, Any], *, resume: bool) -> RunFolder:
    """The folder that a run will use; nothing is created yet, so that what follows can still refuse.

    Raises:
        InputError: `output_dir` holds another run, or `resume` finds no run, or one with other settings.

    """
    if resume:
        return _folder_to_resume(output_dir, settings)
    if output_dir is None:
        taken = [int(end) for path in RUNS.glob(f"{name}-*") if (end := path.name.removeprefix(f"{name}-")).isdigit()]
        return RunFolder(RUNS / f"{name}-{max(taken, default=0) + 1}", numbered=True)
    _refuse_taken(Path(output_dir))
    return RunFolder(Path(output_dir))


def newest_run(*names: str) -> RunFolder:
    """The run under `runs/` that finished last, of those whose names begin with one of `names`; without any, of all.

    Raises:
        InputError: there is none.

    """
    finished = [path for name in names or ("",) for path in RUNS.glob(f"{name}*/final") if path.is_dir()]
    if not finished:
        raise InputError(f"{RUNS}/: no finished run: make one with `accelerate launch finetune/sft.py`")
    return RunFolder(max(finished, key=lambda path: path.stat().st_mtime).parent)


def _folder_to_resume(output_dir: str | None, settings: Mapping[str, Any]) -> RunFolder:
    if output_dir is None:
        raise InputError("resume: which run? name its folder with --output_dir")
    path = Path(output_dir)
    if not (path / RECORD).exists():
        raise MissingInput(f"output_dir {path}: no {RECORD}, so no run to resume: leave out --resume to start one")
    check_run_files(path)
    _refuse_held(path)
    refuse_other_settings(path, settings)
    return RunFolder(path)


def refuse_other_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuses to go on with a run under other settings than those that it recorded.

    Raises:
        InputError: a setting is another.

    """
    recorded = RunFolder(path).record()["settings"]
    for field, value in json.loads(json.dumps(settings, default=str)).items():
        if field in MAY_DIFFER_ON_RESUME:
            continue
        if field not in recorded:
            raise InputError(
                f"{path}: was started by a version that had no {field}, and what it did instead is not known: go on "
                "with that version, or start a new run"
            )
        if recorded[field] != value:
            raise InputError(
                f"{path}: was started with {field} = {recorded.get(field)!r}, now it is {value!r}: "
                "resume with the same settings, or start a new run"
            )


def _refuse_other_inputs(path: Path, facts: Mapping[str, Any]) -> None:
    recorded = RunFolder(path).record()
    for name, value in facts.items():
        if name.endswith("_sha256") and name in recorded and recorded[name] != value:
            what = name.removesuffix("_sha256")
            raise InputError(
                f"{path}: {what} is not what the run was started with (sha256 {value[:12]}, it was "
                f"{recorded[name][:12]}): bring the old {what} back, or start a new run"
            )


def _refuse_held(path: Path) -> None:
    if path.is_dir() and is_main_process():  # the others would find the first one's own mark
        refuse_held(path)


def _refuse_taken(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"output_dir {path}: is a file, expected a new folder: choose another name")
    _refuse_held(path)
    if path.is_dir() and any(entry.name not in LEFTOVERS for entry in path.iterdir()):
        found = "holds another run" if (path / RECORD).exists() else "is not empty"
        raise InputError(f"output_dir {path}: {found}: choose a new folder, or continue its run with --resume")


def find_run(path: str | Path) -> RunFolder | None:
    """The run that a folder belongs to: the folder itself or one of the three above it; None where none is a run."""
    path = Path(path).absolute()
    return next((RunFolder(folder) for folder in (path, *path.parents[:3]) if (folder / RECORD).is_file()), None)


def find_recorded(path: str | Path, name: str) -> Any:
    """The setting of the run that a folder belongs to; None where it is no run's, or the run has no such setting.

    Raises:
        InputError: the record of the run is not what a run wrote.

    """
    run = find_run(path)
    return None if run is None else run.record()["settings"].get(name)
