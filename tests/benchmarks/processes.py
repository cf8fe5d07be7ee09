"""The loop in several processes: how far its losses are from those of one, and the memory that each process takes.

    python -m tests.benchmarks.processes

Each way runs on the CPU of this machine through gloo, launched with a file of `configs/accelerate`. The losses are of
30 steps on ragged rows, by SGD with momentum; a mean per process, put in on purpose, stands beside them. The memory is
the most that a process held in three AdamW steps of a GPT of 42 million parameters, all of them trained in fp32.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.scratch_models.launches import LAUNCHES, launch

LOSSES, MEMORY = "tests/scratch_models/loop_in_processes.py", "tests/scratch_models/memory_in_processes.py"
ALONE = (("one_cpu.yaml",),)
# Freed memory goes back at once: malloc's reserves are not what a way to train needs.
TIGHT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main() -> None:
    """Prints both tables."""
    with TemporaryDirectory() as folder:
        print_losses(Path(folder))
        print_memory(Path(folder))


def print_losses(folder: Path) -> None:
    """The largest difference of a loss from that of one process."""
    launch(LOSSES, ALONE, folder / "alone")
    alone = losses(folder / "alone" / "plain")
    print(f"{'30 steps in':<16} {'largest difference':>20} {'wanted':>8} {'of a mean per process':>23}")
    for way, machines in LAUNCHES.items():
        launch(LOSSES, machines, folder / way)
        sound, per_rank = (largest(alone, losses(folder / way / run)) for run in ("plain", "per_rank_mean"))
        print(f"{way:<16} {sound:>20.1e} {'<= 1e-5':>8} {per_rank:>23.1e}")


def print_memory(folder: Path) -> None:
    """Gigabytes of a process for each billion parameters."""
    print(f"\n{'GB per 1e9 parameters':<22} {'loaded':>7} {'most, in training':>18}")
    for way, machines in {"one process": ALONE, **LAUNCHES}.items():
        if "machines" in way:
            continue
        launch(MEMORY, machines, folder / "memory" / way, **TIGHT)
        found = [json.loads(file.read_text()) for file in (folder / "memory" / way).glob("*.json")]
        loaded, most = (max(one[name] for one in found) for name in ("loaded", "most"))
        print(f"{way:<22} {loaded:>7.1f} {most:>18.1f}")


def losses(run: Path) -> list[float]:
    """The loss of each step."""
    return [json.loads(line)["loss_nats"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def largest(some: list[float], others: list[float]) -> float:
    """The largest difference between two lists of numbers."""
    return max(abs(one - other) for one, other in zip(some, others, strict=True))


if __name__ == "__main__":
    main()
