"""What the models of a service are called, and where each lies: a request names one of them and never a path.

smollm2, my-base              named by whoever started the service
runs/sft-3                    a finished run under its folder of runs
ft:smollm2:ftjob-1f...        what a job of its queue left
runs/sft-3:step-200           a checkpoint of either; step 0 is the base that the run started from
"""

import difflib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from configs import InputError
from finetune.runs.job import Job
from finetune.runs.job_store import JobStore
from scratch_models.loop.run_folder import RECORD, find_recorded, find_run

TUNED = "ft:"
STEP = ":step-"
TUNING_KINDS = ("sft", "dpo", "new_rows", "pretrain", "extend")
STEP_DIGITS = 8
OWN, OF_RUNS = "graft", "graft-runs"


class NoSuchModel(InputError):
    """A name that is none of the service's."""


@dataclass(frozen=True)
class NamedModel:
    """A model that can be asked or tuned."""

    name: str
    place: str
    """A folder, a Hub name, a GGUF file, `embedded` or `smollm2`."""
    created: int
    """Unix seconds."""
    owner: str

    @property
    def fingerprint(self) -> str:
        """What the API says of its state: a folder of a job or run never changes once it is there."""
        return f"fp_{self.created:x}"


class ModelNames:
    """The models of one service."""

    def __init__(self, named: Mapping[str, str], runs: Path, jobs: JobStore) -> None:
        self.named, self.runs, self.jobs = dict(named), runs, jobs
        self._began = int(time.time())

    def all(self) -> list[NamedModel]:
        """Every model there is now: those named at the start, then runs and jobs, the newest first."""
        named = [NamedModel(name, place, self._began, OWN) for name, place in self.named.items()]
        others = [*self._finished_runs(), *self._of_jobs()]
        return [*named, *sorted(others, key=lambda model: -model.created)]

    def find(self, name: str) -> NamedModel:
        """The model of this name.

        Raises:
            NoSuchModel: there is none.
        """
        if name in self.named:
            return NamedModel(name, self.named[name], self._began, OWN)
        of_run, is_step, step = name.partition(STEP)
        if is_step and step.isascii() and step.isdigit() and len(step) <= STEP_DIGITS:
            return self._at_step(self.find(of_run), int(step))
        found = self._of_job_named(name) if name.startswith(TUNED) else None
        found = found or next((model for model in self.all() if model.name == name), None)
        if found is None:
            near = difflib.get_close_matches(name, [model.name for model in self.all()], n=1)
            meant = f", did you mean {near[0]}?" if near else ": GET /v1/models lists those that there are"
            raise NoSuchModel(f"model {ascii(name)[1:-1][:100]}: no such model{meant}")
        return found

    def place_of(self, name: str) -> str:
        """Where the model of this name lies.

        Raises:
            NoSuchModel: there is none.
        """
        return self.find(name).place

    def steps_of(self, name: str) -> list[int]:
        """The steps of the run that a model is of, at which it can be asked too: 0 and its checkpoints; none else.

        Raises:
            NoSuchModel: there is no such model.
        """
        return _steps_of(self.find(name))

    def with_steps(self) -> list[str]:
        """The names of all models, and of their runs' checkpoints."""
        models = self.all()
        return [
            *(one.name for one in models),
            *(f"{one.name}{STEP}{step}" for one in models for step in _steps_of(one)),
        ]

    def _at_step(self, model: NamedModel, step: int) -> NamedModel:
        steps = _steps_of(model)
        if step not in steps:
            there = f"expected one of {', '.join(map(str, steps))}" if steps else "it is of no run"
            raise NoSuchModel(f"model {model.name}: has no checkpoint of step {step}, {there}")
        run = find_run(model.place)
        assert run is not None, "it has steps"
        place = run.checkpoints / f"step_{step:0{STEP_DIGITS}d}" if step else find_recorded(run.path, "base")
        return NamedModel(f"{model.name}{STEP}{step}", str(place), model.created, model.owner)

    def _finished_runs(self) -> Iterator[NamedModel]:
        if not self.runs.is_dir():
            return
        for folder in self.runs.iterdir():
            final = folder / "final"
            if (folder / RECORD).is_file() and final.is_dir() and not folder.is_symlink():
                created = int(final.stat().st_mtime)
                yield NamedModel(f"{self.runs.name}/{folder.name}", str(folder), created, OF_RUNS)

    def _of_jobs(self) -> Iterator[NamedModel]:
        for job in self.jobs.list(states=["succeeded"]):
            if job.kind in TUNING_KINDS and job.output_dir.is_dir():
                yield _of(job)

    def _of_job_named(self, name: str) -> NamedModel | None:
        job_id = name.rpartition(":")[2]
        try:
            job = self.jobs.get(job_id)
        except InputError:
            return None
        if job.state != "succeeded" or job.kind not in TUNING_KINDS or name != name_of(job):
            return None
        return _of(job)


def _steps_of(model: NamedModel) -> list[int]:
    run = find_run(model.place) if Path(model.place).is_dir() else None
    if run is None or find_recorded(run.path, "base") is None:
        return []
    found = [path.name.removeprefix("step_") for path in run.checkpoints.glob("step_*") if path.is_dir()]
    return [0, *sorted(int(step) for step in found if step.isdigit())]


def name_of(job: Job) -> str:
    """What the model that a job leaves is called."""
    return f"{TUNED}{job.details.get('model', 'model')}:{job.id}"


def _of(job: Job) -> NamedModel:
    return NamedModel(name_of(job), str(job.output_dir), int(job.ended_at or job.created_at), job.owner or OWN)
