"""Our side of `pretrain_speed`, in a process of its own: the stages of the command. Prints one line of JSON."""

import tempfile
from pathlib import Path
from typing import Literal, cast

from finetune.pretraining.settings import PretrainSettings
from finetune.pretraining.stages import prepare_training, read_start
from finetune.pretraining.text_blocks import TextBlocks
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.micro_batches import MicroBatch
from scratch_models.loop.run_folder import choose_run_folder
from scratch_models.loop.run_record import start_run
from scratch_models.loop.training import train
from tests.benchmarks.pretrain_sides.work import BLOCK_SIZE, BLOCKS_PER_STEP, LEARNING_RATE, RANK, Work
from tests.benchmarks.sft_sides.work import StepClock


class Noting:
    """The blocks of a run; notes when each step begins, which ends the last."""

    def __init__(self, blocks: TextBlocks, clock: StepClock) -> None:
        self.blocks, self.clock = blocks, clock

    def describe(self, step: int) -> str:
        return self.blocks.describe(step)

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """What the loop asks for."""
        if step:
            self.clock.note()
        return self.blocks.micro_batches(step, rank, world_size)


def main(work: Work) -> None:
    """Trains, and prints the figures."""
    settings = PretrainSettings(
        base=work.base,
        corpus=work.documents,
        max_steps=work.steps,
        warmup_steps=0,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        lora_rank=RANK,
        block_size=BLOCK_SIZE,
        blocks_per_batch=BLOCKS_PER_STEP,
        precision=cast(Literal["auto", "fp32", "bf16"], work.precision),
        evaluation_steps=0,
        checkpoint_steps=0,
    )
    folder = choose_run_folder(str(Path(tempfile.mkdtemp()) / "run"), "speed", {}, resume=False)
    accelerator = make_accelerator("auto")
    start = read_start(settings, folder, accelerator)
    training = prepare_training(start.settings, start, folder, accelerator)
    run = start_run(folder, start.settings, accelerator, {})
    clock = StepClock()
    batches, loop = Noting(training.dataset.batches, clock), start.settings.loop
    loss_model, optimizers = training.monitor.loss_model, [training.optimizer]
    train(loss_model, batches, optimizers, loop, accelerator=accelerator, run=run, evaluate=lambda step: {})
    clock.note()
    metrics = run.read_metrics()
    tokens = [entry["tokens"] for entry in metrics]
    clock.report(tokens, [entry["loss_nats"] for entry in metrics], computed=training.engine.describe())


if __name__ == "__main__":
    main(Work.from_arguments())
