"""Started with `file_events.so` in front of the C library: runs that are killed at each call that changes a file.

    LD_PRELOAD=file_events.so python killed_runs.py KIND FOLDER FIRST EVERY

Prints one JSON line a kill: the number of the event, whether the write was torn, what the resume came to. Each run and
each resume is a process of its own, forked from this one, which has imported everything once.
"""

import atexit
import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.reliability.small_runs import RUNS, metrics_of, weights_of

LARGEST = 10**9


def run_forked(
    work: Callable[[], Any], log: Path, *, beneath: Path, at: int = -1, torn: bool = False
) -> tuple[int, int]:
    """The status of the work in a process of its own, killed at one event, and how many events there were."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        events = ctypes.CDLL(None)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        events.file_events_arm(os.fsencode(beneath), ctypes.c_long(at), int(torn))
        status = 1
        try:
            work()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()  # as a process that is not forked does
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(writing, str(events.file_events_seen()).encode())
            os._exit(status)
    os.close(writing)
    came_back = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = int(os.read(reading, 64) or b"-1")
    os.close(reading)
    return came_back, seen


def judge(run: Path, whole: Path, status: int, log: Path) -> str:
    """What a resume came to: `equal`, or what is wrong."""
    if "Traceback" in log.read_text():
        return "traceback: " + log.read_text()[-400:]
    if status != 0:
        return f"status {status}: {log.read_text()[-300:]}"
    if metrics_of(run) != metrics_of(whole):
        return "other metrics"
    left, right = weights_of(run), weights_of(whole)
    if left.keys() != right.keys() or not all(bool((left[name] == right[name]).all()) for name in left):
        return "other weights"
    leftovers = [str(path.relative_to(run)) for path in run.rglob(".*") if path.name != ".gitattributes"]
    return "equal" if not leftovers else f"leftovers: {leftovers}"


def main(kind: str, folder: Path, first: int, every: int) -> None:
    inputs, run, log = folder / "inputs", folder / "run", folder / "log.txt"
    start = partial(RUNS[kind], inputs, run)
    shutil.rmtree(run, ignore_errors=True)
    status, events = run_forked(start, log, beneath=run)
    assert status == 0, log.read_text()
    whole = folder / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    shutil.copytree(run, whole)
    for number in range(first, events, every):
        for torn in (False, True):
            shutil.rmtree(run, ignore_errors=True)
            status, _ = run_forked(start, log, beneath=run, at=number, torn=torn)
            came_to = f"not killed, status {status}"
            if status == -signal.SIGKILL:
                again = {"resume": True} if (run / "run.json").is_file() else {}
                status, _ = run_forked(partial(start, **again), log, beneath=run)
                came_to = judge(run, whole, status, log)
            print(json.dumps({"event": number, "torn": torn, "came to": came_to}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
