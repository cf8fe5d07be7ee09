"""When a process began, so that a number that the system gave to another one meanwhile is not taken for it."""

from functools import cache
from pathlib import Path

import psutil


def start_of(pid: int) -> str | None:
    """When the process began; None where there is none, or only what is left until its parent asks for its status.

    On Linux the kernel's own count since the machine started, with the name of that start: psutil's time of day would
    be another after the clock was set.

    >>> import os
    >>> start_of(os.getpid()) == start_of(os.getpid()), start_of(2**22 + 1)
    (True, None)
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        ticks = _linux_ticks(pid)
        return f"{_boot()}/{ticks}" if ticks else f"{process.create_time():.2f}"
    except (psutil.Error, OSError, ValueError):
        return None


def is_alive(pid: int | None, started: str | None) -> bool:
    """Whether the process of that number is the one that began then, and runs."""
    return pid is not None and started is not None and start_of(pid) == started


def same_boot(started: str) -> bool:
    """Whether the machine has not been started again since; True where that cannot be known."""
    return "/" not in started or started.partition("/")[0] == _boot()


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _linux_ticks(pid: int) -> str:
    """Field 22 of proc(5)'s stat; the second one is the command in brackets, with spaces perhaps."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text(errors="replace").rpartition(")")[2].split()[19] if stat.exists() else ""
