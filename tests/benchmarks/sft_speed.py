"""Fine-tuning beside TRL's SFTTrainer: tokens a second, memory, losses, and the share of the arithmetic floor.

    pip install -e ".[bench]"
    python -m tests.benchmarks.sft_speed
    python -m tests.benchmarks.sft_speed --shape gpt2 --steps 3
    python -m tests.benchmarks.sft_speed --shape smollm2 --only fp32 --steps 2
    python -m tests.benchmarks.sft_speed --only losses

The work: LoRA of rank 8 on a GPT-2 with random weights (6 layers of 384, or GPT-2's own shape) and dropout of 0.1, or
of rank 32 on SmolLM2-135M-Instruct in its own chat template; GSM8K, 8 conversations a step (TRL packed: 3 rows of 512),
the loss on the answers, one line of log a step. Both sides run in processes of their own, in turn; the first step of
each is left out. Shown are medians over the rounds, TRL's best setting of each kind beside ours, and the ratio. The
second table gives the same rows and start values to both without dropout, in fp32, and compares the losses of the first
steps. Where other work runs on the machine, more than one thread measures the scheduler: take `--threads 1` and look at
the figures by processor second. On two free cores 20 minutes, in which TRL takes nearly all; SmolLM2 takes longer.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from typing import Any, Protocol

from tests.benchmarks.sft_sides.work import Work

Figures = dict[str, Any]
OURS = "tests.benchmarks.sft_sides.our_side"
TRL = "tests.benchmarks.sft_sides.trl_side"
TRL_SETTINGS = {
    "fp32": [("padded", "fp32"), ("packed", "fp32")],
    "best": [(layout, precision) for precision in ("bf16", "bf16_weights") for layout in ("padded", "packed")],
}
WANTED = {
    "small": {"fp32": 5.0, "best": 6.0},
    "gpt2": {"fp32": 2.0, "best": 3.0},
    "smollm2": {"fp32": 2.9, "best": 4.5},
}
WANTED_SHARE = {"small": 0.55, "gpt2": 0.55, "smollm2": 0.65}
WANTED_MEMORY, WANTED_LOSS = 0.5, 1e-4


class OnCommandLine(Protocol):
    """What a side is asked to do."""

    def arguments(self) -> list[str]:
        """As words on its command line."""


def run_side(module: str, work: OnCommandLine, threads: int) -> Figures:
    """One side's figures."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, "-m", module, *work.arguments()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(work.arguments())} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def measure(arguments: argparse.Namespace, kind: str) -> tuple[dict[tuple[str, str], list[Figures]], list[Figures]]:
    """TRL's figures for each of its settings, and ours, in turn."""
    theirs: dict[tuple[str, str], list[Figures]] = {setting: [] for setting in TRL_SETTINGS[kind]}
    ours = []
    precision = "fp32" if kind == "fp32" else "bf16"
    for _ in range(arguments.rounds):
        for setting, found in theirs.items():
            work = Work(arguments.shape, *setting, arguments.steps, arguments.dropout)
            found.append(run_side(TRL, work, arguments.threads))
            show(f"TRL {' '.join(setting)}", found[-1])
        # More steps of ours take less time than theirs.
        work = Work(arguments.shape, "flat", precision, 3 * arguments.steps, arguments.dropout)
        ours.append(run_side(OURS, work, arguments.threads))
        show(f"ours {precision}", ours[-1])
    return theirs, ours


def show(name: str, figures: Figures) -> None:
    """One run as a line."""
    losses = " ".join(f"{loss:.3f}" for loss in figures["losses"][:4])
    print(
        f"  {name:<26} {figures['tokens_per_second']:8.0f} tokens/s {figures['tokens_per_processor_second']:8.0f} "
        f"a processor second {figures['peak_mb']:7,} MB   losses {losses}",
        flush=True,
    )


def median(runs: list[Figures], name: str) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(run[name] for run in runs)


def compare_speed(arguments: argparse.Namespace, kind: str) -> None:
    """Prints the rows of one kind: the ratios of speed and memory, and the share of the floor in fp32."""
    theirs, ours = measure(arguments, kind)
    wanted = WANTED[arguments.shape][kind]
    for rate in ("tokens_per_second", "tokens_per_processor_second"):
        best = max(theirs, key=lambda setting: median(theirs[setting], rate))
        ratio = median(ours, rate) / median(theirs[best], rate)
        row(f"{kind}: {rate.replace('_', ' ')} against TRL {' '.join(best)}", f">= {wanted} x", f"{ratio:.1f} x")
    least = min(median(found, "peak_mb") for found in theirs.values())
    row(f"{kind}: peak memory against TRL's least", f"<= {WANTED_MEMORY} x", f"{median(ours, 'peak_mb') / least:.2f} x")
    if kind == "fp32":
        for seconds in ("seconds", "processor_seconds"):
            shares = [run["floor_gflop"] / run[seconds] / run[f"fp32_gflop_per_{seconds}"] for run in ours]
            name = f"share of the fp32 matmul rate, by {seconds.replace('_', ' ')}"
            row(name, f">= {WANTED_SHARE[arguments.shape]:.0%}", f"{statistics.median(shares):.0%}")


def compare_losses(arguments: argparse.Namespace) -> None:
    """Prints how far the losses of the first steps lie apart."""
    work = Work(arguments.shape, "padded", "fp32", arguments.compared_steps, 0.0)
    theirs, ours = run_side(TRL, work, arguments.threads), run_side(OURS, work, arguments.threads)
    show("TRL padded fp32", theirs)
    show("ours fp32", ours)
    largest = max(abs(a - b) for a, b in zip(theirs["losses"], ours["losses"], strict=True))
    row(f"losses of the first {arguments.compared_steps} steps, dropout 0", f"<= {WANTED_LOSS}", f"{largest:.1e}")


def row(what: str, wanted: str, seen: str) -> None:
    """One row of the table."""
    print(f"{what:<72} {wanted:>10} {seen:>10}", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=WANTED, default="small")
    parser.add_argument("--only", choices=["fp32", "best", "losses"])
    parser.add_argument("--steps", type=int, default=5, help="of TRL; we take three times as many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compared_steps", type=int, default=10, help="whose losses are held to TRL's")
    parser.add_argument("--dropout", type=float, help="0.1 by default, of SmolLM2 0")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.dropout is None:
        arguments.dropout = 0.0 if arguments.shape == "smollm2" else 0.1
    if importlib.util.find_spec("trl") is None:
        print('skipped: TRL is not installed; pip install -e ".[bench]"')
        return
    for kind in ("fp32", "best"):
        if arguments.only in (None, kind):
            compare_speed(arguments, kind)
    if arguments.only in (None, "losses"):
        compare_losses(arguments)


if __name__ == "__main__":
    main()
