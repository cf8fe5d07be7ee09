"""The folder that a run leaves: `run.json`, `metrics.jsonl`, `checkpoints/`, `final/` and the report."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import InputError

RUNS = Path("runs")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "tiktoken", "safetensors")
MAY_DIFFER_ON_RESUME = {"resume", "dry_run", "output_dir"}


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run, and what is written to them."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        """Where the finished model goes."""
        return self.path / "final"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    def start(self, settings: Mapping[str, Any], facts: Mapping[str, Any], *, resume: bool) -> "RunFolder":
        """Makes the folder and writes `run.json`; or, to resume, checks that what the run is made of is still the same.

        Returns the folder, which has another number where a run beside this one has just taken it.

        Raises:
            InputError: data, base or tokenizer are not those that the run was started with.

        """
        if resume:
            recorded = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            for name, value in json.loads(json.dumps(facts)).items():
                if name.endswith("_sha256") and recorded.get(name) != value:
                    what = name.removesuffix("_sha256")
                    raise InputError(
                        f"{self.path}: {what} is not what the run was started with (sha256 {str(value)[:12]}, it was "
                        f"{str(recorded.get(name))[:12]}): bring the old {what} back, or start a new run"
                    )
            return self
        run = self
        while run.path.parent == RUNS and run.path.exists() and any(run.path.iterdir()):
            name, _, number = run.path.name.rpartition("-")
            run = RunFolder(RUNS / f"{name}-{int(number) + 1}")
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_facts(settings, **facts)
        return run

    def write_facts(self, settings: Mapping[str, Any], **facts: Any) -> None:
        """Writes `run.json`: every setting as resolved, versions, and the facts given."""
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        record = {"settings": settings, "command": sys.argv, "versions": versions, "machine": machine, **facts}
        _write_whole(self.path / "run.json", json.dumps(record, indent=2, default=str) + "\n")

    def append_metrics(self, entry: Mapping[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`; a last line that a kill cut short is left out."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def drop_metrics_after(self, step: int) -> None:
        """Takes back the lines of steps that a resumed run will do again."""
        kept = [json.dumps(entry) + "\n" for entry in self.read_metrics() if entry["step"] <= step]
        _write_whole(self.metrics, "".join(kept))


def choose_run_folder(output_dir: str | None, name: str, settings: Mapping[str, Any], *, resume: bool) -> RunFolder:
    """The folder that a run will use; nothing is created yet, so that what follows can still refuse.

    Raises:
        InputError: `output_dir` holds another run, or `resume` finds no run, or one with other settings.

    """
    if resume:
        return _folder_to_resume(output_dir, settings)
    if output_dir is None:
        taken = [int(end) for path in RUNS.glob(f"{name}-*") if (end := path.name.removeprefix(f"{name}-")).isdigit()]
        return RunFolder(RUNS / f"{name}-{max(taken, default=0) + 1}")
    path = Path(output_dir)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "holds another run" if (path / "run.json").exists() else "is not an empty folder"
        raise InputError(f"output_dir {path}: {what}: choose a new folder, or continue its run with --resume")
    return RunFolder(path)


def newest_run(name: str = "") -> RunFolder:
    """The finished run under `runs/` that was written last.

    Raises:
        InputError: there is none.

    """
    finished = [path.parent for path in RUNS.glob(f"{name}*/final") if path.is_dir()]
    if not finished:
        raise InputError(f"{RUNS}/: no finished run: make one with `accelerate launch finetune/sft.py`")
    return RunFolder(max(finished, key=lambda path: path.stat().st_mtime))


def _folder_to_resume(output_dir: str | None, settings: Mapping[str, Any]) -> RunFolder:
    if output_dir is None:
        raise InputError("resume: which run? name its folder with --output_dir")
    path = Path(output_dir)
    if not (path / "run.json").is_file():
        raise InputError(f"output_dir {path}: no run.json, so no run to resume: leave out --resume to start one")
    recorded = json.loads((path / "run.json").read_text(encoding="utf-8"))["settings"]
    for field, value in json.loads(json.dumps(settings, default=str)).items():
        if field not in MAY_DIFFER_ON_RESUME and recorded.get(field) != value:
            raise InputError(
                f"{path}: was started with {field} = {recorded.get(field)!r}, now it is {value!r}: "
                f"resume with the same settings, or start a new run"
            )
    return RunFolder(path)


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
