"""One run, looked at wherever a kill could end it, and resumed from there.

    LD_PRELOAD=file_events.so python -m tests.reliability.recorded_kills NAME FOLDER FIRST EVERY REALLY

What `kill -9` leaves is what stands in the folder at that moment. So the run is recorded once: it stops before each
call that changes a file beneath FOLDER/live, and half way in each write, and the folder is copied where it differs from
what was there before. From the copies FIRST, FIRST + EVERY, … the command goes on, at the same path, and is judged.
At every REALLY-th call it is killed in earnest too: what that leaves must be one of the states. Prints one JSON line a
state or kill, and a last one with the counts. Each run is forked from this process, which has imported everything once.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.reliability.folder_states import (
    digest,
    is_one_change,
    mapped_and_moved,
    state_of,
    written_through_memory,
)
from tests.reliability.kill_trial import Trial
from tests.reliability.killable import KILLABLE
from tests.reliability.killed_runs import end_as_a_process


def record(trial: Trial) -> dict[str, Any]:
    """Leaves a copy of each state that the folder passes through, by number; what was counted meanwhile."""
    live, copies = trial.live, trial.copies
    trial.begin_anew()
    child = os.fork()
    if child == 0:
        end_as_a_process(trial.work, trial.log, lambda: ctypes.CDLL(None).file_events_stop(os.fsencode(live)))
    stops, before = 0, state_of(live)
    unseen: list[list[str]] = []
    known: set[str] = set()

    def keep(state: dict[str, str]) -> None:
        if digest(state) not in known:
            shutil.copytree(live, copies / f"{len(known):05d}", symlinks=True)
            known.add(digest(state))

    for _ in _stops_of(child):
        stops += 1
        after = state_of(live)
        if moved := mapped_and_moved(before, after):
            with written_through_memory(live, *moved) as write:
                for share in (0.5, 1):
                    write(share)
                    keep(state_of(live))
        elif not is_one_change(before, after):
            unseen.append(sorted(name for name, _ in before.items() ^ after.items()))
        keep(after)
        before = after
    keep(state_of(live))
    return {"stops": stops, "states": len(known), "changed without a call": unseen}


def _stops_of(child: int) -> Iterator[None]:
    """Comes back at each stop of the child, which goes on afterwards, until it ends."""
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the recorded run failed"
            return
        yield
        os.kill(child, signal.SIGCONT)


def main(name: str, folder: Path, first: int, every: int, really: int) -> None:
    """Prints what each state came to, and the counts."""
    trial = Trial(KILLABLE[name], folder)
    counts = record(trial)
    copies = sorted(trial.copies.iterdir())[first::every]
    for copy in copies:
        trial.go_on(copy, state=int(copy.name))
    kills = range(first, trial.events, really) if really else ()
    for index, number in enumerate(kills):
        trial.kill(number, torn=index % 2 == 1)
    counts |= {"events": trial.events, "resumed": len(copies), "really killed": len(kills)}
    print(json.dumps({"command": name, **counts, "outcomes": trial.outcomes}))


if __name__ == "__main__":
    name, place, *numbers = sys.argv[1:]
    os.environ["XDG_CACHE_HOME"] = f"{place}/live/cache"
    main(name, Path(place), *map(int, numbers))
