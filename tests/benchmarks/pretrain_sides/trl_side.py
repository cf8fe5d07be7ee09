"""TRL's side of `pretrain_speed`, in a process of its own: prints one line of JSON."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from tests.benchmarks.pretrain_sides.work import BLOCK_SIZE, BLOCKS_PER_STEP, LEARNING_RATE, RANK, Work
from tests.benchmarks.sft_sides.work import StepClock


class Noting(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_step_end(self, *arguments: Any, **more: Any) -> None:
        """Called by the trainer."""
        self.clock.note()


def read_documents(path: str, steps: int) -> list[dict[str, str]]:
    """Enough of them for so many steps, each between ends of text, as they are when a tokenizer adds none."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    characters = 8 * BLOCK_SIZE * BLOCKS_PER_STEP * (steps + 1)
    chosen: list[dict[str, str]] = []
    for line in lines:
        chosen.append({"text": json.loads(line)["text"] + "<|endoftext|>"})
        characters -= len(chosen[-1]["text"])
        if characters < 0:
            break
    return chosen


def main(work: Work) -> None:
    """Trains, and prints the figures."""
    clock = StepClock()
    weights = torch.bfloat16 if work.precision == "bf16_weights" else torch.float32
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(work.base, dtype=weights),
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(),
            max_steps=work.steps,
            per_device_train_batch_size=BLOCKS_PER_STEP,
            packing=True,
            max_length=BLOCK_SIZE,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            bf16=work.precision == "bf16",
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(read_documents(work.documents, work.steps)),
        processing_class=AutoTokenizer.from_pretrained(work.base),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Noting(clock)],
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "num_tokens" in entry and "loss" in entry]
    totals = [0, *(int(entry["num_tokens"]) for entry in logged)]
    tokens = [after - before for before, after in pairwise(totals)]
    clock.report(tokens, [float(entry["loss"]) for entry in logged])


if __name__ == "__main__":
    main(Work.from_arguments())
