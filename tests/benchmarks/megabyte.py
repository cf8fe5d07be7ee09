"""Measures MEGABYTE against a GPT on the same bytes at equal seconds of training, and draws both curves.

    python -m tests.benchmarks.megabyte [--seconds 70] [--block_size 256] [--output megabyte.svg]

Both read tiny Shakespeare (from ../shared/data, else downloaded) as bytes with AdamW, the same blocks, the same
schedule over the seconds, one thread each, one after the other. Seconds are those of the core, so that other work
on the machine favours neither; evaluations are not counted.
"""

import argparse
import time
from typing import Any

import torch
from torch import Tensor, nn

from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.corpus.blocks import RandomBlocks, held_out_blocks
from scratch_models.corpus.training_text import TrainingText, read_training_text
from scratch_models.loop.training import SummedLoss
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.megabyte import Megabyte, MegabyteConfig
from tests.house.repository import ROOT
from tokenizer_ext.pages.plots import new_figure

TEXT = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
TOKENS_PER_STEP = 1024
EVALUATIONS = 10
LEARNING_RATE = 6e-3


def main() -> None:
    """Trains both, prints what they come to, and draws their curves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=70)
    parser.add_argument("--block_size", type=int, default=256)
    parser.add_argument("--output", default="megabyte.svg")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = read_training_text(str(TEXT) if TEXT.is_file() else "tinyshakespeare", "bytes", 256)
    curves = {}
    for name, model in _models(options.block_size).items():
        parameters = sum(parameter.numel() for parameter in model.parameters())
        curve, steps = _train(model, text, options.block_size, options.seconds)
        curves[name] = curve
        print(f"{name:<9} {parameters:>9,} parameters, {steps:>5} steps of {TOKENS_PER_STEP} bytes in ", end="")
        print(f"{options.seconds:.0f} s: {curve[-1][1]:.3f} bits per byte on the whole held-out text", flush=True)
    figure = new_figure(4.5)
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), marker="o", label=name)
    axes.set(xlabel="seconds of training", ylabel="held-out bits per byte")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(options.output)
    print(f"Plotted: {options.output}")


def _models(block_size: int) -> dict[str, nn.Module]:
    """Two models of which a step takes about as long."""
    shape: dict[str, Any] = {"vocabulary_size": 256, "block_size": block_size, "heads": 4}
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(**shape, layers=4, width=64))
    torch.manual_seed(0)
    patches = MegabyteConfig(**shape, layers=2, width=128, patch_size=4, local_layers=2, local_width=64)
    return {"GPT": gpt, "MEGABYTE": Megabyte(patches)}


def _train(
    model: nn.Module, text: TrainingText, block_size: int, seconds: float
) -> tuple[list[tuple[float, float]], int]:
    """The held-out bits per byte after so many seconds, at the last point over the whole text; and the steps done."""
    loss_model = SummedLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    batches = RandomBlocks(text.training_ids, block_size, TOKENS_PER_STEP // block_size, seed=0)
    held_out = held_out_blocks(text.held_out_ids, block_size, 8)
    curve, spent, step = [(0.0, _measure(loss_model, held_out[::16]))], 0.0, 0
    while spent < seconds:
        started = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / 50, 1.05 - spent / seconds)
        loss = loss_model(**batches.micro_batches(step, 0, 1)[0]) / TOKENS_PER_STEP
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - started
        step += 1
        if seconds > spent >= len(curve) * seconds / EVALUATIONS:
            curve.append((spent, _measure(loss_model, held_out[::16])))
    return [*curve, (spent, _measure(loss_model, held_out))], step


@torch.no_grad()
def _measure(loss_model: nn.Module, micro_batches: list[dict[str, Tensor]]) -> float:
    loss_model.eval()
    nats = sum(float(loss_model(**micro_batch)) for micro_batch in micro_batches)
    loss_model.train()
    targets = sum(int((micro_batch["targets"] >= 0).sum()) for micro_batch in micro_batches)
    return bits_per_byte(nats, text_bytes=targets)


if __name__ == "__main__":
    main()
