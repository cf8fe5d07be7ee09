"""A run in a process of its own that is killed at a call that changes a file, and what it comes to when it goes on.

`file_events.so` must stand in front of the C library of this process, which has imported everything.
"""

import atexit
import ctypes
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from configs.manifest import find_damage
from tests.reliability.folder_states import state_of
from tests.reliability.small_runs import metrics_of

MEASURED = {"metrics.jsonl", "run.json", "manifest.json", "receipt.json"}
"""Files that hold speeds, or hashes of such; metrics are compared by their lines, manifests by what they say."""
OF_THE_CLOCK = re.compile(r", chosen by measuring: fp32 [^,]+, bf16 [^,]+(?=, )")
"""What a resume takes from the record instead of measuring it anew."""


def end_as_a_process(
    work: Callable[[], Any],
    log: Path,
    arm: Callable[[], Any] = lambda: None,
    at_end: Callable[[], Any] = lambda: None,
) -> NoReturn:
    """Does the work in a process that was forked, and ends it as one that was not; what is said goes to the log."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    arm()
    status = 1
    try:
        work()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        at_end()
        os._exit(status)


def run_forked(
    work: Callable[[], Any], log: Path, *, beneath: Path, at: int = -1, torn: bool = False
) -> tuple[int, int]:
    """The status of the work in a process of its own, killed at one event, and how many events there were."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        events = ctypes.CDLL(None)
        end_as_a_process(
            work,
            log,
            lambda: events.file_events_arm(os.fsencode(beneath), ctypes.c_long(at), int(torn)),
            lambda: os.write(writing, str(events.file_events_seen()).encode()),
        )
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
    if (other := _other_files(run, whole)) is not None:
        return other
    leftovers = [str(path.relative_to(run)) for path in run.rglob(".*")]
    return "equal" if not leftovers else f"leftovers: {leftovers}"


def _other_files(run: Path, whole: Path) -> str | None:
    """Which file is another one, or one too many or too few; None where all are equal to the bit, but for speeds."""
    left, right = state_of(run), state_of(whole)
    if left.keys() != right.keys():
        return f"other files: {sorted(left.keys() ^ right.keys())}"
    for name in left:
        if left[name] != right[name] and _without_speed(run / name) != _without_speed(whole / name):
            return f"{name} is another"
    sealed = (path.parent for part in ("final", "merged") for path in (run / part).rglob("manifest.json"))
    return next(filter(None, map(find_damage, sealed)), None)


def _without_speed(path: Path) -> str | bytes | None:
    """A text without what is measured by the clock; None for a file that tells nothing else."""
    if path.name in MEASURED:
        return None
    if path.suffix in (".md", ".html") or path.name == "report.json":
        return OF_THE_CLOCK.sub("", path.read_text())
    return path.read_bytes()
