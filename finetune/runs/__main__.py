"""The queue of runs from the terminal: jobs wait in order, run one a device, and go on whoever is killed.

    python -m finetune.runs queue sft --base smollm2 --data chats.jsonl    # adds a job; fields are those of the entry
    python -m finetune.runs work                                           # carries jobs out, until Ctrl-C
    python -m finetune.runs list
    python -m finetune.runs show JOB
    python -m finetune.runs pause JOB                                      # also resume, cancel
    python -m finetune.runs requeue JOB --learning_rate 1e-4               # a new job, with one field changed
    python -m finetune.runs show --help                                    # the settings of each command

Everything stands in one folder, `service/` unless `--folder` names another: `jobs.sqlite`, and a folder a job with its
settings, its log and its run. A server that serves the same folder shows the same jobs.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from configs import InputError, load_config
from configs.one_line_ending import TRACEBACK, ends_in_one_line
from finetune.runs.job import Job
from finetune.runs.job_store import JobStore
from finetune.runs.kinds import KINDS, given_fields

FOLDER = "service"
SHOWN_ERROR = 60


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """Which queue."""

    folder: str = FOLDER
    """Folder of the queue."""


@dataclass(frozen=True, kw_only=True)
class NewJobSettings(QueueSettings):
    """A job to add; beside these come the fields of its entry."""

    name: str = ""
    """What to call the job, in one line."""


@dataclass(frozen=True, kw_only=True)
class ListSettings(QueueSettings):
    """Which jobs to list."""

    states: str | list[str] | None = None
    """Only jobs in these states, such as queued running; by default all."""
    limit: int = 50
    """The newest so many."""


@dataclass(frozen=True, kw_only=True)
class JobSettings(QueueSettings):
    """One job."""

    FIRST: ClassVar = "job"
    """What the command's first word names."""

    job: str
    """Id of the job, or as much of its end as no other has; it may stand first, without --job."""


@dataclass(frozen=True, kw_only=True)
class ShowSettings(JobSettings):
    """One job, and how much of its log."""

    lines: int = 20
    """Last lines of the log to show."""


@dataclass(frozen=True, kw_only=True)
class WorkSettings(QueueSettings):
    """A worker."""

    devices: str | list[str] | None = None
    """What carries out one job each: cpu, or what CUDA_VISIBLE_DEVICES may hold, such as 0 1; by default every GPU, or
    else the CPU."""
    slurm: int = 0
    """Hand so many jobs at once to Slurm instead; options for sbatch stand in GRAFT_SBATCH."""
    callback_url: str | None = None
    """URL that is told of every job that ends, by POST."""


def queue(arguments: Sequence[str]) -> None:
    """Adds a job."""
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"queue: what? expected one of {', '.join(KINDS)}, then fields of that command")
    kind, rest = arguments[0], arguments[1:]
    own, others = _split(rest, NewJobSettings)
    settings = load_config(NewJobSettings, own, command="python -m finetune.runs queue KIND")
    given = given_fields(kind, others)
    job = JobStore(settings.folder).add(kind, given, name=settings.name)
    print(f"{job.id}: is queued; `python -m finetune.runs work --folder {settings.folder}` carries out what waits")


def requeue(arguments: Sequence[str]) -> None:
    """Adds a job with the settings of another, but for the fields that are given."""
    own, others = _split(arguments, JobSettings)
    settings = load_config(JobSettings, own, command="python -m finetune.runs requeue JOB")
    store = JobStore(settings.folder, create=False)
    job = find_job(store, settings.job)
    again = store.requeue(job.id, given_fields(job.kind, others, job.settings))
    print(f"{again.id}: is queued, as {job.id} was")


def show_list(arguments: Sequence[str]) -> None:
    """Lists jobs, oldest first."""
    settings = load_config(ListSettings, arguments, command="python -m finetune.runs list")
    store = JobStore(settings.folder, create=False)
    states: Any = [settings.states] if isinstance(settings.states, str) else settings.states
    if settings.limit < 1:
        raise InputError(f"limit: found {settings.limit}, expected at least 1")
    found = store.list(states=states, limit=settings.limit)
    if not found:
        print(f"No such jobs in {settings.folder}: `python -m finetune.runs queue --help` says how to add one")
    for job in reversed(found):
        print(f"{job.id}  {job.kind:<12}  {_state(job):<18}  {_age(job):>9}  {_about(job)}".rstrip())


def show(arguments: Sequence[str]) -> None:
    """Shows one job: where it stands, its settings, the end of its log."""
    settings = load_config(ShowSettings, arguments, command="python -m finetune.runs show")
    store = JobStore(settings.folder, create=False)
    job = find_job(store, settings.job)
    print(f"{job.id}  {job.kind}  {_state(job)}" + (f"  {job.name}" if job.name else ""))
    if job.error:
        print(f"error: {job.error}")
    print(f"folder: {job.folder}\ndevice: {job.device or 'none yet'}; attempts: {job.attempt}")
    for name, value in job.settings.items():
        print(f"  {name}: {value}")
    checkpoints = store.checkpoints(job.id)
    if checkpoints:
        print(f"checkpoints: {', '.join(str(one.step) for one in checkpoints)}")
    for event in store.events(job.id, limit=5, newest_first=True)[::-1]:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(event.created_at))}  {event.message}")
    if settings.lines:
        print(*store.log(job.id, settings.lines), sep="\n")


def ask(name: str) -> Callable[[Sequence[str]], None]:
    """The command that asks one thing of a job: cancel, pause or resume."""

    def command(arguments: Sequence[str]) -> None:
        settings = load_config(JobSettings, arguments, command=f"python -m finetune.runs {name}")
        store = JobStore(settings.folder, create=False)
        job = getattr(store, name)(find_job(store, settings.job).id)
        print(f"{job.id}: is {_state(job)}")

    return command


def work(arguments: Sequence[str]) -> None:
    """Carries jobs out until it is interrupted; what runs goes on then, and is found again by the next worker."""
    settings = load_config(WorkSettings, arguments, command="python -m finetune.runs work")
    from finetune.runs.worker import Worker, find_devices

    logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.INFO)
    launcher: Any = "slurm" if settings.slurm else "local"
    given = [settings.devices] if isinstance(settings.devices, str) else settings.devices
    devices = given or find_devices(launcher, settings.slurm)
    worker = Worker(JobStore(settings.folder), devices=devices, launcher=launcher, callback_url=settings.callback_url)
    print(f"{settings.folder}: works on {', '.join(devices)}; Ctrl-C ends the worker, what runs goes on", flush=True)
    worker.work()


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "list": show_list,
    "show": show,
    "cancel": ask("cancel"),
    "pause": ask("pause"),
    "resume": ask("resume"),
    "requeue": requeue,
    "queue": queue,
    "work": work,
}


def main(arguments: Sequence[str]) -> None:
    """Does what the first word says with what follows it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    if arguments[0] not in COMMANDS:
        raise InputError(f"{arguments[0]}: no such command, expected one of {', '.join(COMMANDS)}")
    COMMANDS[arguments[0]](arguments[1:])


def find_job(store: JobStore, name: str) -> Job:
    """The job with that id, or the only one whose id ends so.

    Raises:
        InputError: there is none, or several.

    """
    found = [job for job in store.list() if job.id == name or (name and job.id.endswith(name))]
    if len(found) != 1:
        there_are = "no such job" if not found else f"{len(found)} jobs end so"
        raise InputError(f"job: {name!r}: {there_are}, `python -m finetune.runs list` shows all of them")
    return found[0]


def _split(arguments: Sequence[str], schema: type) -> tuple[list[str], list[str]]:
    """The arguments that are for the queue, and those that are for the entry.

    >>> _split(["ftjob-1", "--folder", "jobs", "--lora_rank", "4"], JobSettings)
    (['ftjob-1', '--folder', 'jobs'], ['--lora_rank', '4'])
    """
    names = {field.name for field in fields(schema)}
    own, others = list[str](), list[str]()
    into = own if hasattr(schema, "FIRST") else others
    for one in arguments:
        if one.startswith("--"):
            into = own if one.removeprefix("--").partition("=")[0] in names else others
        into.append(one)
    return own, others


def _state(job: Job) -> str:
    return f"{job.state}, to {job.wanted}" if job.wanted else job.state


def _age(job: Job) -> str:
    """How long it has run, or waits."""
    start = job.started_at or job.created_at
    seconds = int((job.ended_at or time.time()) - start)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _about(job: Job) -> str:
    return "  ".join(filter(None, (job.name, (job.error or "")[:SHOWN_ERROR])))


if __name__ == "__main__":
    with ends_in_one_line(with_traceback=TRACEBACK in sys.argv):
        main([one for one in sys.argv[1:] if one != TRACEBACK])
