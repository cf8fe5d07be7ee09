"""The memory of a step by the tokens of its one row: eight times the tokens may take 8.5 times the memory.

    python -m tests.benchmarks.long_rows

A tiny Llama (4 blocks, 128 wide, 4 heads of queries and 2 of keys, 2,048 ids) takes two steps of AdamW on all weights,
in single precision, through the engine and the loss of fine-tuning, each length in a process of its own. The memory is
the most that the process held in the second step beyond what it held when the model was there, gradients and AdamW
included; what grows with the square of the tokens would show.
"""

import os
import subprocess
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finetune.chat.packing import join
from finetune.engine.engine import start_engine
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from tests.scratch_models.memory_in_processes import Resident

LENGTHS = (2_048, 4_096, 8_192, 16_384)
STEPS = 2
MOST_GROWTH = 8.5
"""From the first length to the last, eight times as long."""
# Freed memory goes back at once: malloc's reserves are not what a step needs.
TIGHT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main() -> None:
    """Prints the memory of each length, with gradients checkpointed and without."""
    for checkpointing in (False, True):
        print("gradients checkpointed" if checkpointing else "activations kept")
        found = [in_own_process(tokens, checkpointing=checkpointing) for tokens in LENGTHS]
        for tokens, megabytes in zip(LENGTHS, found, strict=True):
            print(f"{tokens:>8,} tokens {megabytes:>8,.0f} MB {megabytes / found[0]:>6.2f} x", flush=True)
        assert found[-1] <= MOST_GROWTH * found[0], f"grew by {found[-1] / found[0]:.2f}, wanted {MOST_GROWTH}"


def in_own_process(tokens: int, *, checkpointing: bool) -> float:
    """Megabytes of a step."""
    command = [sys.executable, "-m", "tests.benchmarks.long_rows", str(tokens), str(int(checkpointing))]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **TIGHT})
    return float(said.stdout.split()[-1])


def measure(tokens: int, *, checkpointing: bool) -> float:
    """The same in this process."""
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "vocab_size": 2048}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": max(LENGTHS)}
    model = LlamaForCausalLM(LlamaConfig(**shape, **heads))
    settings = LoopSettings(
        max_steps=2, learning_rate=1e-3, precision="fp32", gradient_checkpointing=checkpointing, checkpoint_steps=0
    )
    engine = start_engine(model, settings, make_accelerator("fp32"))
    loss_model = SupervisedLoss(model, engine).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(2048, (tokens + 1,)).tolist()
    micro_batch = join([(ids[:-1], ids[1:])], packed=engine.packs)
    resident = Resident()
    before = resident.now()
    for _ in range(STEPS):
        resident.most = 0
        (loss_model(**micro_batch) / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (resident.most - before) / 1e6


if __name__ == "__main__":
    if sys.argv[1:]:
        print(measure(int(sys.argv[1]), checkpointing=sys.argv[2] == "1"))
    else:
        main()
