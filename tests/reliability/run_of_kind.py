"""One of the small runs, in whatever processes launched this; one that was begun goes on.

accelerate launch --config_file FILE tests/reliability/run_of_kind.py KIND INPUTS RUN
"""

import sys
from pathlib import Path

from tests.reliability.small_runs import ALL_RUNS

if __name__ == "__main__":
    kind, inputs, run = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    again = {"resume": True} if (run / "run.json").is_file() else {}
    ALL_RUNS[kind](inputs, run, **again)
