"""Our side of `sft_speed`, in a process of its own: the loop that every entry trains with. Prints one line of JSON."""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal, cast

import torch
from transformers import PreTrainedModel

from finetune.chat.packing import Row, join_by_tokens
from finetune.engine.engine import Engine, start_engine
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import choose_run_folder
from scratch_models.loop.run_record import start_run
from scratch_models.loop.training import train
from tests.benchmarks.matmul_rate import product_gflops
from tests.benchmarks.sft_sides.work import (
    CONVERSATIONS_PER_STEP,
    LEARNING_RATES,
    StepClock,
    Work,
    floor_mflop,
)

TOKENS_PER_MICRO_BATCH = 4096


class InOrder:
    """The conversations in the order of the file, eight a step; notes when each step begins, which ends the last."""

    def __init__(self, rows: list[Row], clock: StepClock, engine: Engine) -> None:
        self.rows, self.clock, self.packed = rows, clock, engine.packs
        self.shares_prefix = engine.shares_prefixes
        self.tokens = engine.tokens_at_once(TOKENS_PER_MICRO_BATCH)

    def of_step(self, step: int) -> list[Row]:
        """The rows that a step reads."""
        return self.rows[CONVERSATIONS_PER_STEP * step : CONVERSATIONS_PER_STEP * (step + 1)]

    def describe(self, step: int) -> str:
        return f"batch {step}"

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """What the loop asks for."""
        if step:
            self.clock.note()
        return self.joined(step)

    def joined(self, step: int) -> list[MicroBatch]:
        """A step's rows as the product joins them; what all conversations of one begin with stands there once."""
        rows = sorted(self.of_step(step), key=lambda row: len(row[0]))
        return join_by_tokens(rows, self.tokens, packed=self.packed, shares_prefix=self.shares_prefix)


def make_rows(work: Work) -> list[Row]:
    """Ids and targets as TRL makes them: of the whole text, learned from where the prompt's ids are no longer its."""
    tokenizer = work.make_tokenizer()
    rows = list[Row]()
    for problem in work.read_problems(work.steps):
        prompt = tokenizer(problem["prompt"])["input_ids"]
        ids = [*tokenizer(problem["prompt"] + problem["completion"])["input_ids"], tokenizer.eos_token_id]
        differs = [place for place, (id_, whole) in enumerate(zip(prompt, ids, strict=False)) if id_ != whole]
        given = min(differs, default=len(prompt))
        rows.append((ids[:-1], [IGNORED_TARGET] * (given - 1) + ids[given:]))
    return rows


def main(work: Work) -> None:
    """Trains, and prints the figures, with the rate of matrix products before and after."""
    clocks = {"seconds": time.perf_counter, "processor_seconds": time.process_time}
    rates = {name: product_gflops(torch.float32, 5, of_kind) for name, of_kind in clocks.items()}
    settings = LoopSettings(
        max_steps=work.steps,
        learning_rate=LEARNING_RATES[work.shape],
        precision=cast(Literal["fp32", "bf16"], work.precision),
        evaluation_steps=0,
        checkpoint_steps=0,
    )
    accelerator = make_accelerator("auto")
    model = work.make_model().get_base_model()
    assert isinstance(model, PreTrainedModel)
    engine = start_engine(model, settings, accelerator)
    loss_model = SupervisedLoss(model, engine)
    optimizers = make_optimizers(loss_model, settings)
    folder = choose_run_folder(str(Path(tempfile.mkdtemp()) / "run"), "speed", {}, resume=False)
    run = start_run(folder, settings, accelerator, dataclasses.asdict(work))
    clock = StepClock()
    batches = InOrder(make_rows(work), clock, engine)
    train(loss_model, batches, optimizers, settings, accelerator=accelerator, run=run, evaluate=lambda step: {})
    clock.note()
    for name, of_kind in clocks.items():
        rates[name] += product_gflops(torch.float32, 5, of_kind)
    steps = [batches.of_step(step) for step in range(work.steps)]
    tokens = [sum(len(row[0]) + 1 for row in rows) for rows in steps]
    learned = [sum(target != IGNORED_TARGET for row in rows for target in row[1]) for rows in steps]
    computed = sum(one["input_ids"].numel() for step in range(1, work.steps) for one in batches.joined(step))
    floor = floor_mflop(model, computed, sum(learned[1:])) / 1e3
    losses = [entry["loss_nats"] for entry in run.read_metrics()]
    medians = {f"fp32_gflop_per_{name}": statistics.median(found) for name, found in rates.items()}
    clock.report(tokens, losses, floor_gflop=floor, **medians)


if __name__ == "__main__":
    main(Work.from_arguments())
