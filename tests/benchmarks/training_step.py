"""What the training loop costs beside a step written straight in torch: the same GPT, batches, loss and AdamW.

    python -m tests.benchmarks.training_step

Ours is `scratch_models.train` on `configs/gpt_char.yaml`, its seconds those of `metrics.jsonl`; beside it the same
model, blocks and optimizer in twelve lines with nothing around them. Sides take turns, medians of five rounds.
Reads `../shared/data`; about two minutes on two quiet cores.
"""

import statistics
import time

import torch
from torch.nn import functional as F

from configs import load_config
from scratch_models.corpus.blocks import RandomBlocks
from scratch_models.corpus.training_text import read_training_text
from scratch_models.loop.optimizers import learning_rate_factor, make_optimizers
from scratch_models.make_model import make_model
from scratch_models.train_settings import TrainSettings
from tests.benchmarks.speedrun_char import SHAKESPEARE, our_run

STEPS, ROUNDS = 300, 5
CONFIG = "configs/gpt_char.yaml"


def straight(settings: TrainSettings) -> float:
    """Seconds a step of a loop with nothing around it."""
    text = read_training_text(settings.data, settings.tokens, settings.vocabulary_size)
    torch.manual_seed(0)
    model = make_model(settings, len(text.vocabulary))
    (optimizer,) = make_optimizers(model, settings)
    blocks = RandomBlocks(text.training_ids, settings.block_size, settings.blocks_per_batch, settings.seed)
    began = time.perf_counter()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, settings)
        (batch,) = blocks.micro_batches(step, 0, 1)
        logits = model(batch["input_ids"])  # (B, T, V)
        F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    """Prints both sides and their ratio."""
    settings = load_config(TrainSettings, ["--config", CONFIG, "--data", str(SHAKESPEARE), "--max_steps", str(STEPS)])
    loop, bare = [], []
    for seed in range(ROUNDS):
        loop.append(our_run(STEPS, seed, config=CONFIG)["seconds"] / STEPS)
        bare.append(straight(settings))
    ours, theirs = statistics.median(loop), statistics.median(bare)
    print(f"ms a step: loop {1000 * ours:.2f}, straight {1000 * theirs:.2f}: {ours / theirs:.3f} x (wanted 1.05)")
    print("rounds:", [f"{one / other:.3f}" for one, other in zip(loop, bare, strict=True)])


if __name__ == "__main__":
    main()
