"""Runs in two processes that meet as a launcher's workers do, each a fork of this one, which has imported all of it."""

import atexit
import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState
from torch.distributed import TCPStore

SECONDS, SECONDS_AFTER_A_FAILURE, SECONDS_TO_END = 120, 15, 10


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    """Below 0 where a signal ended it."""
    out: str
    said: str
    """On stderr."""


def in_two_processes(work: Callable[[int], Any]) -> list[Ended]:
    """How the processes of rank 0 and 1 ended; `work` is given the rank."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # a launcher holds it too
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    # A file would count for a limit on the size of files.
    pipes = [[_wide_pipe() for _ in range(2)] for _ in range(2)]
    children = [_fork(work, rank, environment, [told for _, told in pipes[rank]]) for rank in range(2)]
    for _, told in (*pipes[0], *pipes[1]):
        os.close(told)
    statuses = _wait(children)
    return [Ended(status, *map(_read, heard)) for status, heard in zip(statuses, pipes, strict=True)]


def _wide_pipe() -> tuple[int, int]:
    heard, told = os.pipe()
    fcntl.fcntl(told, fcntl.F_SETPIPE_SZ, 2**20)
    return heard, told


def _read(pipe: tuple[int, int]) -> str:
    with os.fdopen(pipe[0], encoding="utf-8", errors="replace") as heard:
        return heard.read()


def _fork(work: Callable[[int], Any], rank: int, environment: dict[str, str], told: list[int]) -> int:
    child = os.fork()
    if child:
        return child
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "ACCELERATE_USE_CPU": "true"}
    own |= {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": 1}
    status = 1
    try:
        for number, pipe in enumerate(told, start=1):
            os.dup2(pipe, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_num_threads(1)
        with patch.dict(os.environ, environment | {name: str(value) for name, value in own.items()}):
            work(rank)
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(children: list[int]) -> list[int]:
    """The statuses; where one failed the others are ended, as a launcher does, but only after a while."""
    left, statuses, asked = set(children), dict.fromkeys(children, 0), False
    deadline = time.monotonic() + SECONDS
    while left and time.monotonic() < deadline:
        for child in list(left):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                statuses[child] = os.waitstatus_to_exitcode(status)
                left.remove(child)
                if statuses[child]:
                    deadline = min(deadline, time.monotonic() + SECONDS_AFTER_A_FAILURE)
        if left and not asked and any(statuses.values()) and time.monotonic() > deadline - SECONDS_TO_END:
            asked = True
            for child in left:
                os.kill(child, signal.SIGTERM)
        time.sleep(0.01)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not left, "a process waits for the other for ever"
    return list(statuses.values())
