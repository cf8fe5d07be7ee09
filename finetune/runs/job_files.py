"""The files of a job: its settings, what it printed, the metrics and checkpoints of its run."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs import InputError
from configs.whole_folder import write_whole
from finetune.runs.job import Job, JobCheckpoint
from scratch_models.launch.metrics_file import read_metrics

METRICS = "metrics.jsonl"
LOG_BYTES = 4_000_000
"""The most of a log that is read at once, from its end."""
UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it is, and YAML may not."""


def write_settings(path: Path, module: str, settings: Mapping[str, Any]) -> None:
    """Writes settings as the YAML file that the run is started with."""
    write_whole(path, f"# python -m {module} --config {path.name}\n{settings_text(settings)}")


def settings_text(settings: Mapping[str, Any]) -> str:
    r"""Settings as YAML, a line each; the values as JSON, which YAML reads as the same.

    >>> settings_text({"data": "my chats.jsonl", "max_steps": 3, "base": "1e5"})
    'data: "my chats.jsonl"\nmax_steps: 3\nbase: "1e5"\n'
    """
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items())
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", "".join(lines))


def metrics_of(job: Job) -> list[dict[str, Any]]:
    """The lines of metrics of the job's run, without damaged ones."""
    return read_metrics(job.output_dir / METRICS).entries


def checkpoints_of(job: Job) -> list[JobCheckpoint]:
    """The whole checkpoints of the job's run, oldest first."""
    folder = job.output_dir / "checkpoints"
    measured: dict[int, dict[str, Any]] = {}
    for entry in metrics_of(job):
        measured.setdefault(int(entry["step"]), {}).update(entry)
    found = []
    for path in sorted(folder.glob("step_*")):
        manifest = path / "manifest.json"  # written last
        if path.name.removeprefix("step_").isdigit() and manifest.is_file():
            step = int(path.name.removeprefix("step_"))
            digest = hashlib.sha256(f"{job.id}/{step}".encode()).hexdigest()[:24]
            made = manifest.stat().st_mtime
            found.append(JobCheckpoint(f"ftckpt-{digest}", step, path, made, measured.get(step, {})))
    return found


def log_lines(job: Job, last_lines: int) -> list[str]:
    r"""The last lines that the job printed; of a line that was drawn anew, as a progress bar is, the last drawing.

    Raises:
        InputError: `last_lines` is no number of lines.

    """
    if last_lines < 1:
        raise InputError(f"last_lines: found {last_lines}, expected at least 1")
    try:
        with job.log_file.open("rb") as file:
            file.seek(max(0, job.log_file.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return (lines if lines[-1] else lines[:-1])[-last_lines:]
