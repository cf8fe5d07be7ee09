"""The embedded base with 1,000 tokens of a domain that it never read, its new rows trained on that domain for a while.

    python -m tests.benchmarks.extended_base

It runs `finetune/new_rows.py` as a user would, with its defaults, and shows what it found on documents that nothing
has read: bits per byte of the base with its own tokenizer, of the start rows, and of the trained rows, on the same
windows of the same text. 2 to 6 minutes on one core; `--max_steps N` for another number of steps.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from finetune.new_rows import NewRowsSettings
from finetune.new_rows import main as train_new_rows
from finetune.rows.report import REPORT


def main() -> None:
    """Trains and prints the figures."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max_steps", type=int, default=NewRowsSettings.max_steps)
    parser.add_argument("--evaluation_blocks", type=int, default=256)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = NewRowsSettings(
            output_dir=str(run),
            precision="bf16",
            max_steps=given.max_steps,
            evaluation_blocks=given.evaluation_blocks,
            evaluation_steps=0,
            checkpoint_steps=0,
        )
        started = time.perf_counter()
        train_new_rows(settings)
        report = json.loads((run / REPORT).read_text(encoding="utf-8"))
    tokens = settings.max_steps * settings.blocks_per_batch * settings.block_size
    figures = {
        "the base with its own tokenizer": report["base_bits_per_byte"],
        "extended, start rows": report["start_bits_per_byte"],
        "extended, trained rows": report["trained_bits_per_byte"],
    }
    print(f"\n{settings.max_steps} steps, {tokens:,} tokens, {time.perf_counter() - started:.0f} s in all, one thread")
    print("held-out bits per byte of torch's documentation, which neither base nor rows ever read")
    for name, figure in figures.items():
        print(f"    {name:<34} {figure:.4f}")
    wanted = report["base_bits_per_byte"]
    print(f"wanted: <= {wanted:.4f}   seen: {report['trained_bits_per_byte']:.4f}")


if __name__ == "__main__":
    main()
