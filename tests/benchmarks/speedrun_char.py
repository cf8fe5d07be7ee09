"""How soon characters are learned: nanoGPT's published recipe for a CPU beside `configs/speedrun_char.yaml`.

    git clone https://github.com/karpathy/nanoGPT
    python -m tests.benchmarks.speedrun_char --nanogpt nanoGPT

Both train 4 blocks of width 128 on blocks of 64 characters. nanoGPT's side is its own `model.py` with its own optimizer
and schedule: batch 12, 2,000 steps, AdamW from 1e-3 to 1e-4, beta2 0.99, as its README has it for a CPU. Ours is
`scratch_models.train`, once for as many steps as reach the wanted loss, once for as long as the recipe takes. Seconds
are those of training alone; the held-out loss is of the whole validation split, in the same windows on both sides.
Sides take turns, three seeds each. Reads `../shared/data`; about ten minutes on two quiet cores.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from scratch_models.corpus.blocks import held_out_blocks
from scratch_models.corpus.training_text import TrainingText, read_training_text
from scratch_models.loop.micro_batches import IGNORED_TARGET

SHAKESPEARE = Path(__file__).resolve().parents[3] / "shared" / "data" / "tinyshakespeare.txt"
BLOCK, BATCH, STEPS = 64, 12, 2000
WANTED_NATS = 1.89


def nanogpt_run(text: TrainingText, seed: int) -> dict[str, float]:
    """NanoGPT's recipe: seconds to the wanted loss, seconds of all steps, the loss at the end."""
    from model import GPT, GPTConfig  # type: ignore[import-not-found]  # nanoGPT's, from the folder that was named

    torch.manual_seed(seed)
    shape = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": BLOCK, "vocab_size": len(text.vocabulary)}
    model = GPT(GPTConfig(**shape, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    ids, seconds, reached = torch.as_tensor(text.training_ids[:]).long(), 0.0, math.inf
    for step in range(STEPS):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = _nanogpt_rate(step)
        starts = torch.randint(len(ids) - BLOCK, (BATCH,)).tolist()
        inputs = torch.stack([ids[start : start + BLOCK] for start in starts])  # (B, T)
        targets = torch.stack([ids[start + 1 : start + 1 + BLOCK] for start in starts])  # (B, T)
        _, loss = model(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - began
        if reached == math.inf and step >= STEPS // 2 and step % 50 == 49 and _held_out(model, text) <= WANTED_NATS:
            reached = seconds
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"to_wanted": reached, "seconds": seconds, "nats": _held_out(model, text), "parameters": parameters}


def _nanogpt_rate(step: int) -> float:
    if step < 100:
        return 1e-3 * (step + 1) / 101
    progress = (step - 100) / (STEPS - 100)
    return 1e-4 + 0.5 * (1 + math.cos(math.pi * progress)) * (1e-3 - 1e-4)


@torch.no_grad()
def _held_out(model: Any, text: TrainingText) -> float:
    """Nats a character over the whole validation split."""
    nats, counted = 0.0, 0
    for batch in held_out_blocks(text.held_out_ids, BLOCK, 64):
        logits: Tensor = model(batch["input_ids"], batch["input_ids"])[0]  # (B, T, V); with targets it gives all places
        targets = batch["targets"].flatten()
        nats += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="sum"))
        counted += int((targets != IGNORED_TARGET).sum())
    return nats / counted


def our_run(steps: int, seed: int, *changes: str, config: str = "configs/speedrun_char.yaml") -> dict[str, float]:
    """Seconds of all steps and the loss at the end."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        lengths = ["--max_steps", str(steps), "--evaluation_steps", "0", "--checkpoint_steps", "0"]
        command = [sys.executable, "-m", "scratch_models.train", "--config", config, "--data", str(SHAKESPEARE)]
        subprocess.run(
            [*command, *lengths, "--seed", str(seed), "--output_dir", str(run), *changes],
            check=True,
            capture_output=True,
        )
        last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return {"seconds": last["seconds"], "nats": last["held_out_loss_nats"]}


def main() -> None:
    """Prints each run, then the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", required=True, help="folder with nanoGPT's model.py")
    parser.add_argument("--short_steps", type=int, default=160, help="steps of ours that reach the wanted loss")
    parser.add_argument("--long_steps", type=int, default=1500, help="steps of ours in the recipe's own time")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, options.nanogpt)
    text = read_training_text(str(SHAKESPEARE), "characters", 0)
    peers, short, long = [], [], []
    for seed in range(options.seeds):
        short.append(our_run(options.short_steps, seed))
        peers.append(nanogpt_run(text, seed))
        long.append(our_run(options.long_steps, seed))
        print(f"seed {seed}: nanoGPT {peers[-1]}; ours, short {short[-1]}; ours, long {long[-1]}", flush=True)
    taken = statistics.mean(run["to_wanted"] for run in peers)
    ours = statistics.mean(run["seconds"] for run in short)
    print(f"seconds to {WANTED_NATS}: nanoGPT {taken:.1f}, ours {ours:.1f}: {ours / taken:.2f} x (wanted 0.33)")
    print(f"mean loss of the short runs: {statistics.mean(run['nats'] for run in short):.4f} (at most {WANTED_NATS})")
    whole = statistics.mean(run["seconds"] for run in peers)
    print(f"nanoGPT after all {STEPS} steps: {statistics.mean(run['nats'] for run in peers):.4f} in {whole:.1f} s")
    print(
        f"ours: {statistics.mean(run['nats'] for run in long):.4f} "
        f"in {statistics.mean(run['seconds'] for run in long):.1f} s (wanted 1.68 in no more)"
    )


if __name__ == "__main__":
    main()
