"""Processes of one run that wait for each other while one of them is long at work.

A collective gives up after the process group's timeout, ten minutes with NCCL, and its watchdog then ends the run. So
whoever waits here looks from time to time at a number in the store that the processes connected through: that has no
timeout, and a launcher whose process failed still ends those that wait.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import distributed

SECONDS_BETWEEN_LOOKS = 0.05
_meetings = count()  # every process comes to the same ones in the same order


def wait_for_all(accelerator: Accelerator) -> None:
    """Returns when every process has come here, however long that takes."""
    if accelerator.num_processes > 1:
        meeting = _next_meeting()
        store_of_processes().add(meeting, 1)
        _wait_until(meeting, accelerator.num_processes)
        _leave(meeting, accelerator)


@contextmanager
def main_process_first(accelerator: Accelerator) -> Iterator[None]:
    """Lets the main process do what stands below, which fills a cache for the others; then these; nobody goes on alone.

    A main process that fails leaves the others waiting until the launcher ends them.
    """
    if accelerator.num_processes == 1:
        yield
        return
    is_done = _next_meeting()
    if accelerator.is_main_process:
        yield
        store_of_processes().add(is_done, 1)
    else:
        _wait_until(is_done, 1)
        yield
    wait_for_all(accelerator)


def first_said(problem: str | None, accelerator: Accelerator) -> str | None:
    """What the process of the smallest rank says that has a problem, known to all; every process must call it."""
    said = gather_object([problem]) if accelerator.num_processes > 1 else [problem]
    return next((one for one in said if one is not None), None)


def _leave(meeting: str, accelerator: Accelerator) -> None:
    """The main process leaves last: where no launcher holds the store it is its own, and ends with it."""
    gone = f"{meeting}/gone"
    if accelerator.is_main_process:
        _wait_until(gone, accelerator.num_processes - 1)
    else:
        store_of_processes().add(gone, 1)


def _wait_until(meeting: str, arrived: int) -> None:
    while store_of_processes().add(meeting, 0) < arrived:
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _next_meeting() -> str:
    return f"graft/meeting/{next(_meetings)}"


def store_of_processes() -> distributed.Store:
    """What the processes of a run met through: it dies with the launcher that holds it, or with the main process."""
    # torch has no public name for it; a store of our own would need a port that no other launch takes.
    return distributed.distributed_c10d._get_default_store()
