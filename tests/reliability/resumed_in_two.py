"""Every kind of run in two processes, ended at every kind of place and gone on with; one JSON line each.

    python -m tests.reliability.resumed_in_two FOLDER ddp|fsdp2 [KIND ...]

The inputs lie in FOLDER/inputs. The signal comes to the first process, and both end at one step.
"""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from tests.reliability.forked_ranks import run_ranks
from tests.reliability.interrupted import PLACES, ended_at
from tests.reliability.kill_trial import import_as
from tests.reliability.killed_runs import judge
from tests.reliability.small_runs import ALL_RUNS

IN_TWO = {"full": {"accumulation_steps": 2}}
"""Settings of which two processes share what one has."""


def main(folder: Path, sharing: str, kinds: list[str]) -> None:
    """Prints what each came to."""
    run, log = folder / "run", folder / "log.txt"
    for kind in kinds:
        whole, logs = folder / f"whole {kind}", folder / f"logs {kind}"
        start = partial(ALL_RUNS[kind], folder / "inputs", run, **IN_TWO.get(kind, {}))
        import_as(start, log, folder)
        shutil.rmtree(run)
        assert _in_two(start, logs, sharing) == [0, 0], (logs / "rank-0.txt").read_text()
        shutil.copytree(run, whole)
        for place, step in PLACES.items():
            shutil.rmtree(run)
            stopped = _in_two(start, logs, sharing, ended_at(place, step))
            went_on = _in_two(partial(start, resume=True), logs, sharing)
            came_to = judge(run, whole, went_on[0], logs / "rank-0.txt")
            if stopped + went_on != [0, 0, 0, 0]:
                came_to = f"{came_to}, stopped with {stopped}, ended with {went_on}"
            print(json.dumps({"kind": kind, "place": place, "sharing": sharing, "came to": came_to}), flush=True)
        shutil.rmtree(run)


def _in_two(
    start: Callable[[], Any], logs: Path, sharing: str, signalled: AbstractContextManager[Any] | None = None
) -> list[int]:
    """The statuses of a run whose first process gets a signal, where one is given; both then agree on a step."""

    def work(rank: int) -> None:
        with signalled if signalled is not None and rank == 0 else nullcontext():
            start()

    return run_ranks(work, logs, sharded=sharing == "fsdp2")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] or list(ALL_RUNS))
