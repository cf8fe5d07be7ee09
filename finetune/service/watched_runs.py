"""What there is to see of runs, those of the queue and those that a terminal started: how far each is, its curves."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.runs.job import Job
from finetune.runs.job_store import JobStore
from scratch_models.loop.run_folder import RECORD, RunFolder
from tokenizer_ext.pages.plots import as_data_uri, can_plot, new_figure

LOSSES = {"loss_nats": "training", "held_out_loss_nats": "held out"}
MOST_POINTS = 400
FEW_POINTS = 30
PLOT_INCHES = 2.6


@dataclass(frozen=True)
class WatchedRun:
    """One run."""

    name: str
    """A job's id, or the folder of a run."""
    kind: str
    state: str
    folder: Path
    began: float
    """Unix seconds."""
    error: str = ""
    label: str = ""
    """What the user called it."""
    job: Job | None = None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of its metrics, without damaged ones; none before it has begun."""
        return RunFolder(self.folder).read_metrics() if (self.folder / "metrics.jsonl").is_file() else []

    @property
    def figures(self) -> dict[str, float]:
        """The newest of each figure."""
        found: dict[str, float] = {}
        for entry in self.metrics:
            found |= {name: value for name, value in entry.items() if isinstance(value, int | float)}
        return found


def watched_runs(jobs: JobStore, runs: Path, limit: int = 100) -> list[WatchedRun]:
    """Jobs of the queue and runs in a folder, the newest first."""
    found = [_of_job(job) for job in jobs.list(limit=limit)]
    folders = (
        [path.parent for path in runs.glob(f"*/{RECORD}") if not path.parent.is_symlink()] if runs.is_dir() else []
    )
    found += [_of_folder(folder) for folder in folders]
    return sorted(found, key=lambda run: -run.began)[:limit]


def curves(runs: Sequence[WatchedRun]) -> list[dict[str, Any]]:
    """The losses of runs as points of a plot: step, nats, whose they are; long curves thinned, the last point kept."""
    points = []
    for run in runs:
        metrics = run.metrics
        for name, words in LOSSES.items():
            of_one = [entry for entry in metrics if name in entry]
            step = max(1, len(of_one) // MOST_POINTS)
            kept = of_one[::step] if not of_one or of_one[-1] is of_one[::step][-1] else [*of_one[::step], of_one[-1]]
            series = f"{run.label or run.name}, {words}" if len(runs) > 1 else words
            points += [{"step": entry["step"], "nats": float(entry[name]), "of": series} for entry in kept]
    return points


def plot(runs: Sequence[WatchedRun]) -> str:
    """The curves of runs as an image in a data URI; empty where there is no point yet, or nothing to draw with."""
    points = curves(runs)
    if not points or not can_plot():
        return ""
    figure = new_figure(PLOT_INCHES)
    axes = figure.add_subplot()
    for series in dict.fromkeys(point["of"] for point in points):
        of_one = [point for point in points if point["of"] == series]
        marker = "o" if len(of_one) < FEW_POINTS else None
        axes.plot([point["step"] for point in of_one], [point["nats"] for point in of_one], label=series, marker=marker)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.legend()
    return as_data_uri(figure)


def describe(run: WatchedRun, figures: Mapping[str, float]) -> list[str]:
    """How far a run is, in a few words each: step, loss, speed, how long it has been at it."""
    said = [f"step {figures['step']:.0f}"] if "step" in figures else []
    said += [f"loss {figures['loss_nats']:.3f}"] if "loss_nats" in figures else []
    said += [f"held out {figures['held_out_loss_nats']:.3f}"] if "held_out_loss_nats" in figures else []
    said += [f"{figures['tokens_per_second']:,.0f} tokens/s"] if "tokens_per_second" in figures else []
    if run.job is not None and run.job.started_at is not None:
        said.append(f"{(run.job.ended_at or time.time()) - run.job.started_at:,.0f} s")
    return said


def _of_job(job: Job) -> WatchedRun:
    return WatchedRun(
        name=job.id,
        kind=job.kind,
        state=job.state if job.wanted is None else f"{job.state}, asked to {job.wanted}",
        folder=job.output_dir,
        began=job.created_at,
        error=job.error or "",
        label=job.name,
        job=job,
    )


def _of_folder(folder: Path) -> WatchedRun:
    kind = folder.name.rpartition("-")[0] or folder.name
    is_done = (folder / "final").is_dir()
    return WatchedRun(
        f"{folder.parent.name}/{folder.name}",
        kind,
        "finished" if is_done else "not finished",
        folder,
        (folder / RECORD).stat().st_mtime,
    )
