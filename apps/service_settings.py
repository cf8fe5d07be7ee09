"""The settings of the service and of its keys, which the entry and what it starts both read."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from configs import InputError

DEFAULT_FOLDER = "service"
HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+")


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """A server of OpenAI's API."""

    models: str | list[str] = "embedded"
    """Models to ask and to tune: Hub names, folders, GGUF files, `embedded` or `smollm2`, or NAME=one of these."""
    runs: str = "runs"
    """Folder whose finished runs can be asked too, each under its own name such as `runs/sft-3`."""
    folder: str = DEFAULT_FOLDER
    """Folder of the queue, its runs, uploaded files and keys."""
    host: str = "127.0.0.1"
    """Address to listen on; any other than 127.0.0.1 lets other machines in, and needs a key."""
    port: int = 8000
    """Port to listen on."""
    allowed_hosts: str | list[str] = field(default_factory=list)
    """Other names that requests may have in their Host header, such as that of a proxy."""
    reply_tokens: int = 1024
    """The most tokens of a reply, and how many it has where a request says nothing."""
    reply_seconds: float = 300.0
    """How long a reply may take, the wait for its turn included."""
    rows: int = 32
    """Replies that one base generates at the same time."""
    waiting: int = 32
    """Requests that may wait for a base; what comes beyond is refused with a `Retry-After`."""
    idle_minutes: float = 30.0
    """Minutes without a request after which a run, or what a job left, leaves memory; `models` stay."""
    upload_bytes: int = 512_000_000
    """Longest file that may be uploaded."""
    queued_jobs: int = 1_000
    """Jobs that may wait."""
    launcher: Literal["local", "slurm"] = "local"
    """Where jobs run: as processes of this machine, one a device, or through Slurm's sbatch."""
    callback_url: str | None = None
    """Address that is told of every job that ends, by a POST of the job as JSON."""

    def __post_init__(self) -> None:
        for name in ("reply_tokens", "rows", "upload_bytes", "queued_jobs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: found {getattr(self, name)}, expected at least 1")
        if self.waiting < 0:
            raise InputError(f"waiting: found {self.waiting}, expected 0 or more")
        for name in ("reply_seconds", "idle_minutes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: found {getattr(self, name)}, expected a number above 0")
        if not 1 <= self.port <= 65535:
            raise InputError(f"port: found {self.port}, expected a number from 1 to 65535")
        _check_hosts(self.other_names)
        _ = self.named  # refuses a name that is given twice

    @property
    def other_names(self) -> list[str]:
        """`allowed_hosts` as a list."""
        return [self.allowed_hosts] if isinstance(self.allowed_hosts, str) else self.allowed_hosts

    @property
    def named(self) -> dict[str, str]:
        """What each model is called, and where it lies.

        Raises:
            InputError: a name is empty, or given twice.
        """
        found: dict[str, str] = {}
        for entry in [self.models] if isinstance(self.models, str) else self.models:
            name, equals, place = entry.partition("=")
            name, place = (name, place) if equals else (short_name(entry), entry)
            if not name or not place or name in found:
                raise InputError(f"models: found {entry!r}, expected a model or NAME=MODEL, each name once")
            found[name] = place
        return found


@dataclass(frozen=True, kw_only=True)
class KeysSettings:
    """The keys of a service; with no option they are listed."""

    add: str | None = None
    """Name of a new key; its secret is printed once and kept nowhere."""
    may: Literal["read", "train"] = "read"
    """What the new key may do: ask models and look at runs, or also train, upload and cancel."""
    remove: str | None = None
    """Name of a key that no longer counts."""
    folder: str = DEFAULT_FOLDER
    """Folder of the service."""

    def __post_init__(self) -> None:
        if self.add is not None and self.remove is not None:
            raise InputError("add and remove: found both, expected one")


def _check_hosts(names: list[str]) -> None:
    wrong = next((name for name in names if not HOST_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise InputError(f"allowed_hosts: found {wrong!r}, expected a host's name without scheme and port")


def short_name(place: str) -> str:
    """What a model is called that was given no name: a folder by its own name, all else as it is written.

    >>> short_name("openai-community/gpt2"), short_name("smollm2")
    ('openai-community/gpt2', 'smollm2')
    """
    return Path(place).resolve().name if Path(place).is_dir() else place
