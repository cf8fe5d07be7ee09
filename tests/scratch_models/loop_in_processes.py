"""The training loop in whatever processes launched it, several short runs one after the other.

    accelerate launch --config_file FILE tests/scratch_models/loop_in_processes.py DIR

leaves a run's folder for each of `RUNS` in DIR, and what the main process saw in `facts.json`.
"""

import copy
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import MicroBatch, count_targets
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import SummedLoss, held_out_loss, train
from tests.scratch_models.ragged_training import LEARNED, RaggedBatches, global_batch, make_loss_model

STEPS = 30
SETTINGS = LoopSettings(max_steps=STEPS, learning_rate=0.5, evaluation_steps=10, checkpoint_steps=10, gradient_clip=1.0)
ADAMW = replace(SETTINGS, max_steps=12, learning_rate=0.05, evaluation_steps=4, checkpoint_steps=5, warmup_steps=2)
RUNS = ("plain", "per_rank_mean", "unbroken", "broken", "best")


def make_model() -> SummedLoss:
    """Of several blocks: sharded ones are fetched before they are needed, in an order that all processes must share."""
    return make_loss_model(layers=3)


class Interrupted(Exception):
    """Stands for whatever ends a run before its last step."""


class UnevenBatches(RaggedBatches):
    """The ragged rows: the first process reads its rows at once, the others one by one."""

    def __init__(self, seen: "Seen | None" = None) -> None:
        super().__init__()
        self.seen = seen

    def describe(self, step: int) -> str:
        return f"batch {step}"

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        if self.seen:
            self.seen.look()
        return RaggedBatches(8 if rank == 0 else 1).micro_batches(step, rank, world_size)


class Seen:
    """The largest share of parameters and of optimizer state that this process held between two steps."""

    def __init__(self, loss_model: nn.Module, optimizer: Optimizer) -> None:
        self.loss_model, self.optimizer, self.parameters, self.state = loss_model, optimizer, 0.0, 0.0
        self.whole = sum(one.numel() for one in loss_model.parameters())

    def look(self) -> None:
        self.parameters = max(self.parameters, sum(map(_held, self.loss_model.parameters())) / self.whole)
        buffers = [state["momentum_buffer"] for state in self.optimizer.state.values()]
        self.state = max(self.state, sum(map(_held, buffers)) / self.whole)


class PerRankMean(SummedLoss):
    """The loss as a mean over each process's own targets, averaged over processes: what peers once did."""

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        super().__init__(model)
        self.accelerator = accelerator

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        mine = RaggedBatches().micro_batches(0, self.accelerator.process_index, self.accelerator.num_processes)
        own = max(sum(map(count_targets, mine)), 1)
        return super().forward(input_ids, targets) * (sum(LEARNED) / (own * self.accelerator.num_processes))


def main(folder: Path) -> None:
    accelerator = make_accelerator("fp32")
    folder.mkdir(exist_ok=True, parents=True)
    facts = {
        "processes": accelerator.num_processes,
        "on_this_machine": int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        **train_plainly(folder / "plain", accelerator),
    }
    train_per_rank_mean(folder / "per_rank_mean", accelerator)
    train_broken_and_unbroken(folder, accelerator)
    train_best(folder / "best", accelerator)
    if accelerator.is_main_process:
        (folder / "facts.json").write_text(json.dumps(facts))
    accelerator.end_training()


def train_plainly(folder: Path, accelerator: Accelerator) -> dict[str, float | bool]:
    """The ragged rows by SGD, which shows a gradient that is wrong by a factor; what the process held meanwhile."""
    loss_model = make_model()
    before = dict(loss_model.named_parameters())
    optimizer = torch.optim.SGD(loss_model.parameters(), lr=0.5, momentum=0.9)
    seen = Seen(loss_model, optimizer)
    _train(folder, loss_model, [optimizer], SETTINGS, accelerator, UnevenBatches(seen))
    after = dict(loss_model.named_parameters())
    if accelerator.is_main_process:
        _save(loss_model, folder)
    copied = copy.deepcopy(loss_model)  # which FSDP's modules refuse
    untouched = type(copied) is SummedLoss and not any(
        hooks for module in copied.modules() for name, hooks in vars(module).items() if name.endswith("_hooks")
    )
    with torch.no_grad():
        alone = float(copied(**global_batch(0)))  # in this process only: a hook of FSDP would wait for the others
    return {
        "parameters_held": seen.parameters,
        "state_held": seen.state,
        "same_parameters": all(after[name] is one for name, one in before.items()),
        "same_modules": untouched,
        "loss_alone": alone / sum(LEARNED),
    }


def train_per_rank_mean(folder: Path, accelerator: Accelerator) -> None:
    loss_model = PerRankMean(make_model().model, accelerator)
    _train(folder, loss_model, [torch.optim.SGD(loss_model.parameters(), lr=0.5, momentum=0.9)], SETTINGS, accelerator)


def train_broken_and_unbroken(folder: Path, accelerator: Accelerator) -> None:
    """AdamW in one piece, and the same run that was ended after step 8 and resumed from its checkpoint of step 5."""
    loss_model = make_model()
    _train(folder / "unbroken", loss_model, make_optimizers(loss_model, ADAMW), ADAMW, accelerator)
    if accelerator.is_main_process:
        _save(loss_model, folder / "unbroken")
    loss_model = make_model()
    try:
        _train(folder / "broken", loss_model, make_optimizers(loss_model, ADAMW), ADAMW, accelerator, stop_at=8)
    except Interrupted:
        accelerator.wait_for_everyone()
    loss_model = make_model()
    again = replace(ADAMW, resume=True)
    _train(folder / "broken", loss_model, make_optimizers(loss_model, again), again, accelerator)
    if accelerator.is_main_process:
        _save(loss_model, folder / "broken")


def train_best(folder: Path, accelerator: Accelerator) -> None:
    """A run whose evaluations are best at step 4 and which ends itself at step 8."""
    loss_model = make_model()
    settings = replace(ADAMW, evaluation_steps=2, keep_best=True, early_stopping_evaluations=2)

    def evaluate(step: int) -> Mapping[str, float]:
        # Each process says something else: they must all follow the main one, or they wait for each other for ever.
        own = accelerator.process_index * step
        return {"held_out_bits_per_byte": float(abs(step - 4) + own)}

    _train(folder, loss_model, make_optimizers(loss_model, settings), settings, accelerator, evaluate=evaluate)
    _save(loss_model, folder, f"rank_{accelerator.process_index}")


def _train(folder, loss_model, optimizers, settings, accelerator, batches=None, *, stop_at=0, evaluate=None) -> None:
    def read_held_out(step: int) -> Mapping[str, float]:
        if step == stop_at:
            raise Interrupted
        micro_batches = [global_batch(100 + number) for number in range(3)]  # no even number for two processes
        nats, targets = held_out_loss(loss_model, micro_batches, accelerator)
        said = 0.0
        if accelerator.is_main_process:  # as an assistant's replies are
            with torch.no_grad():
                said = float(loss_model.model(global_batch(0)["input_ids"]).abs().sum())
        return {"held_out_loss_nats": nats / targets, "said": said}

    folder.mkdir(exist_ok=True, parents=True)
    train(
        loss_model,
        batches or UnevenBatches(),
        optimizers,
        settings,
        accelerator=accelerator,
        run=RunFolder(folder),
        evaluate=evaluate or read_held_out,
    )


def _save(loss_model: nn.Module, folder: Path, name: str = "after") -> None:
    weights = {name: one.detach().clone() for name, one in loss_model.named_parameters()}
    save_file(weights, folder / f"{name}.safetensors")


def _held(tensor: Tensor) -> int:
    return tensor.to_local().numel() if isinstance(tensor, DTensor) else tensor.numel()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
