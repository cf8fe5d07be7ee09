"""A job of the queue as it stands, and what is said of it on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from configs import InputError

JobState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
Wanted = Literal["pause", "cancel"]
STATES: tuple[JobState, ...] = get_args(JobState)
ENDED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")
"""States from which a job does not go on by itself."""
NAME_LETTERS = 64


def check_name(name: str) -> None:
    """Refuses what cannot be shown as the name of a job.

    Raises:
        InputError: it is too long, or holds what is no letter.

    """
    if len(name) > NAME_LETTERS or not (name == "" or name.isprintable()):
        raise InputError(f"name: found {name[:80]!a}, expected at most {NAME_LETTERS} printable letters")


@dataclass(frozen=True)
class Job:
    """One run that was asked for; what changes it is a transaction of the store, this is what stood there."""

    id: str
    """`ftjob-` and 24 hexadecimal digits."""
    kind: str
    """A name of `finetune.runs.kinds.KINDS`."""
    name: str
    """What the user called it; may be empty."""
    owner: str
    """Whom the caller says that it belongs to; may be empty."""
    state: JobState
    settings: dict[str, Any]
    """The settings as they were given; what the queue sets itself is not among them."""
    details: dict[str, Any]
    """What whoever queued it wants to find again; the queue reads none of it."""
    folder: Path
    """Holds `settings.yaml`, `log.txt` and `run/`."""
    directory: str
    """The folder that names in the settings are relative to: that of whoever queued it."""
    created_at: float
    """Unix seconds, as the next two."""
    started_at: float | None
    """When it first ran."""
    ended_at: float | None
    error: str | None
    """Why it failed, in one line."""
    attempt: int
    """How often it was handed to a supervisor; only the one with this number may write of it."""
    begun: int | None
    """The attempt that started the process that runs; a later one watches it on."""
    lost: int
    """How often its process was gone with nobody to say why."""
    pid: int | None
    """The supervisor's."""
    pid_started: str | None
    """When that process began, as `finetune.runs.process_start` tells it."""
    device: str | None
    """What it runs on, or ran last: `cpu`, a number of a GPU, `slurm-0`."""
    wanted: Wanted | None
    """What a running job was asked to do and has not done yet."""

    @property
    def output_dir(self) -> Path:
        """The folder of the run itself."""
        return self.folder / "run"

    @property
    def log_file(self) -> Path:
        """What the run printed, of all attempts."""
        return self.folder / "log.txt"

    @property
    def settings_file(self) -> Path:
        """What the run is started with."""
        return self.folder / "settings.yaml"


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job: a change of its state, or a line of its run's metrics."""

    id: str
    """`ftevent-` and 24 hexadecimal digits, in the order in which things happened; it never changes."""
    created_at: float
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]
    """The state that was reached, or the line of metrics."""


@dataclass(frozen=True)
class JobCheckpoint:
    """A whole checkpoint of a job's run."""

    id: str
    """`ftckpt-` and 24 hexadecimal digits, the same as long as it is there."""
    step: int
    folder: Path
    created_at: float
    metrics: dict[str, Any]
    """What the run measured at that step; empty where it measured nothing then."""
