"""Runs of every kind that are killed at random times: `python -m tests.reliability.random_kills FOLDER KILLS SEED`.

Prints one JSON line a kill, and a last one with the counts. The inputs lie in FOLDER/inputs.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

from tests.reliability.kill_trial import Trial
from tests.reliability.killable import KILLABLE
from tests.reliability.killed_runs import run_forked
from tests.reliability.small_runs import ALL_RUNS


def main(folder: Path, kills: int, seed: int) -> None:
    """Kills each kind of run as often, a few once more where the number does not divide."""
    drawn, outcomes, ended_before = random.Random(seed), Counter[str](), 0
    for number, kind in enumerate(ALL_RUNS):
        place = folder / kind
        place.mkdir()
        (place / "inputs").symlink_to(folder / "inputs")
        os.environ["XDG_CACHE_HOME"] = str(place / "live" / "cache")
        trial = Trial(KILLABLE[kind], place)
        trial.begin_anew()
        began = time.monotonic()
        run_forked(trial.work, trial.log, beneath=trial.live)
        seconds = time.monotonic() - began
        left = kills // len(ALL_RUNS) + (number < kills % len(ALL_RUNS))
        while left:
            was_killed = trial.kill_after(drawn.uniform(0, seconds))
            left, ended_before = left - was_killed, ended_before + (not was_killed)
        outcomes += trial.outcomes
    print(json.dumps({"seed": seed, "ended before the kill": ended_before, "outcomes": outcomes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
