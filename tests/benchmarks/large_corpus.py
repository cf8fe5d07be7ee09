"""Measures the peak memory of training on a corpus of 1 GB of ids, none of it a repetition, against one of 1 MB.

    python -m tests.benchmarks.large_corpus [--megabytes 1000] [--steps 100] [--tokens bytes]

Each is written as a text file of random words, and trained on by `scratch_models.train` in a process of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.house.repository import ROOT

LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      \n", np.uint8)
PROGRAM = """
import resource, sys
from configs import load_config
from scratch_models.train import TrainSettings, main
main(load_config(TrainSettings, sys.argv[1:]))
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def main() -> None:
    """Prints both peaks and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens", default="bytes")
    options = parser.parse_args()
    peaks = []
    for megabytes in (1, options.megabytes):
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder, "text.txt"), megabytes)
            started = time.monotonic()
            peaks.append(_peak(folder, options.tokens, options.steps))
            stored = sum(path.stat().st_size for path in Path(folder).rglob("*.ids"))
            seconds = time.monotonic() - started
            print(f"{megabytes:>5} MB of text, {stored / 1e6:>6.0f} MB of ids in files: ", end="")
            print(f"peak {peaks[-1]:.0f} MiB, {seconds:.0f} s", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


def _write(path: Path, megabytes: int) -> None:
    generator = np.random.default_rng(megabytes)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(LETTERS[generator.integers(0, len(LETTERS), 10**6, dtype=np.uint8)].tobytes())


def _peak(folder: str, tokens: str, steps: int) -> float:
    """The peak of resident memory in MiB."""
    model = ("--model", "gpt", "--layers", "2", "--width", "64", "--block_size", "128", "--vocabulary_size", "1000")
    run = ("--max_steps", str(steps), "--evaluation_steps", "0", "--checkpoint_steps", "0", "--output_dir", "run")
    arguments = ("--data", "text.txt", "--tokens", tokens, *model, *run)
    environment = {**os.environ, "XDG_CACHE_HOME": folder, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, cwd=folder, env=environment
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return int(ended.stderr.rpartition("peak ")[2]) / 1024


if __name__ == "__main__":
    main()
