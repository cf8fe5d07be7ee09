"""What full training in single precision takes of each process's memory, in bytes per parameter.

    accelerate launch --config_file FILE tests/scratch_models/memory_in_processes.py DIR

leaves one JSON object for each process in DIR. A GPT of 47 million parameters reads so little in each of three AdamW
steps that parameters, gradients and optimizer state are what counts.
"""

import json
import os
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import MicroBatch
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import SummedLoss, train
from scratch_models.rungs.gpt import GPT, GPTConfig

STEPS, T = 3, 16
SHAPE = GPTConfig(vocabulary_size=8192, block_size=T, layers=12, heads=8, width=512)


class Resident:
    """The resident memory of this process, and the most that it was since it was last asked."""

    def __init__(self) -> None:
        self.most, self.page = 0, os.sysconf("SC_PAGE_SIZE")
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> int:
        """Bytes that this process holds alone, without files that are mapped and shared."""
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        return (resident - shared) * self.page

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(0.002):
            self.most = max(self.most, self.now())


class Blocks:
    """A short block in every step, the same in every process."""

    def describe(self, step: int) -> str:
        return f"batch {step}"

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        ids = torch.arange(T + 1)[None]
        return [{"input_ids": ids[:, :-1], "targets": ids[:, 1:]}]


def main(folder: Path) -> None:
    accelerator = make_accelerator("fp32")
    resident = Resident()
    before = resident.now()
    loss_model = SummedLoss(GPT(SHAPE))
    parameters = sum(one.numel() for one in loss_model.parameters())
    settings = LoopSettings(max_steps=STEPS, learning_rate=1e-3, evaluation_steps=0, checkpoint_steps=0)
    optimizers = make_optimizers(loss_model, settings)
    found = {"parameters": parameters, "loaded": (resident.now() - before) / parameters}

    def evaluate(step: int) -> dict[str, float]:
        found["most"] = (resident.most - before) / parameters
        return {}

    with TemporaryDirectory() as run:
        resident.most = 0
        train(
            loss_model,
            Blocks(),
            optimizers,
            settings,
            accelerator=accelerator,
            run=RunFolder(Path(run)),
            evaluate=evaluate,
        )
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(found))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
