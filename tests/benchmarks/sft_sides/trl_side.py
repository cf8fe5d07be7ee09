"""TRL's side of `sft_speed`, in a process of its own: prints one line of JSON."""

import tempfile
from itertools import pairwise
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from tests.benchmarks.sft_sides.work import (
    CONVERSATIONS_PER_STEP,
    LEARNING_RATES,
    StepClock,
    Work,
)

PACKED_TOKENS, PACKED_ROWS = 512, 3


class InOrder(SFTTrainer):
    """Reads the rows in the order of the file."""

    def _get_train_sampler(self, *arguments: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class Noting(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_step_end(self, *arguments: Any, **more: Any) -> None:
        """Called by the trainer."""
        self.clock.note()


def main(work: Work) -> None:
    """Trains, and prints the figures."""
    packed = work.layout == "packed"
    clock = StepClock()
    trainer = InOrder(
        model=work.make_model(),
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(),
            max_steps=work.steps,
            per_device_train_batch_size=PACKED_ROWS if packed else CONVERSATIONS_PER_STEP,
            packing=packed,
            max_length=PACKED_TOKENS,
            learning_rate=LEARNING_RATES[work.shape],
            lr_scheduler_type="constant",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            bf16=work.precision == "bf16",
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(work.read_problems(2 * work.steps)),
        processing_class=work.make_tokenizer(),
        callbacks=[Noting(clock)],
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "num_tokens" in entry and "loss" in entry]
    totals = [0, *(int(entry["num_tokens"]) for entry in logged)]
    tokens = [after - before for before, after in pairwise(totals)]
    clock.report(tokens, [float(entry["loss"]) for entry in logged])


if __name__ == "__main__":
    main(Work.from_arguments())
