"""One optimizer step: the gradients of a global batch, whatever the processes and micro-batches it is cut into."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from configs import InputError
from scratch_models.launch.stop_request import AskedToStop, StopRequest
from scratch_models.loop.devices import sum_over_processes
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import (
    SUPERVISED_TOKENS,
    Batches,
    MicroBatch,
    Unit,
    count_targets,
    count_tokens,
    size_of,
    to_device,
)
from scratch_models.loop.seeds import mixed_seed
from scratch_models.loop.sharding import gather_tensor


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """What a step is made with."""

    prepared: nn.Module
    """The loss model as it runs in this process: wrapped by DDP, sharded, or as it is."""
    is_sharded: bool
    batches: Batches
    optimizers: Sequence[Optimizer]
    settings: LoopSettings
    accelerator: Accelerator
    unit: Unit
    """What the loss is averaged over."""
    stop: StopRequest
    """Whether some process was asked to end."""

    def take(self, step: int) -> dict[str, float]:
        """One update; what `metrics.jsonl` says of it: `loss_nats` is the mean over the units of the global batch.

        Units that weigh less than 1 count less in that mean; a batch in which nothing weighs anything changes nothing.

        Raises:
            InputError: loss or gradient is not finite, before the update that it would have spoilt.
            AskedToStop: some process was asked to end; nothing changed.

        """
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        micro_batches = self.batches.micro_batches(step, rank, world_size)
        counted = (self.unit.weigh or self.unit.count, self.unit.count, count_targets, count_tokens)
        own = [float(sum(map(count, micro_batches))) for count in counted]
        asked = float(bool(self.stop.reason))  # one sum for all: every process sees the same number
        weight, units, supervised, tokens, asked = sum_over_processes([*own, asked], self.accelerator)
        if asked:
            raise AskedToStop
        torch.manual_seed(mixed_seed(self.settings.seed, step, rank))
        nats = self._add_gradients(micro_batches, weight or 1.0)
        norm = float(gather_tensor(nn.utils.clip_grad_norm_(self._trained(), self.settings.gradient_clip)))
        loss_nats = sum_over_processes([nats], self.accelerator)[0] / (weight or 1.0)
        self._refuse_not_finite(step, loss_nats, norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        # A fused optimizer changes weights without saying so, and whoever keeps a copy of one could not know.
        increment_version(self._trained())
        return {
            "loss_nats": loss_nats,
            "learning_rate": self.optimizers[-1].param_groups[0]["lr"],
            "gradient_norm": norm,
            "tokens": int(tokens),
            SUPERVISED_TOKENS.name: int(supervised),
            self.unit.name: int(units),
        }

    def _add_gradients(self, micro_batches: Sequence[MicroBatch], weight: float) -> float:
        """Adds up the gradients of the mean over all units of a step, which weigh `weight` together.

        Returns the summed nats of this process.
        """
        nats = torch.zeros((), dtype=torch.float64)
        missing = self._missing(len(micro_batches))
        for number, micro_batch in enumerate(micro_batches):
            self._stop_between_micro_batches()
            is_last = number == len(micro_batches) - 1
            # Slices of gradients are summed over the processes at once: whole ones would not fit where slices do.
            with nullcontext() if is_last or self.is_sharded else self.accelerator.no_sync(self.prepared):
                nats += self._backward(micro_batch, 1 / weight).cpu().double()
        for _ in range(missing):
            self._backward(min(micro_batches, key=size_of), 0.0)
        return float(nats)

    def _backward(self, micro_batch: MicroBatch, weight: float) -> Tensor:
        with self.accelerator.autocast():
            loss: Tensor = self.prepared(**to_device(micro_batch, self.accelerator))
        # Gradients are averaged over processes; times their number, the average is the sum that the mean needs.
        self.accelerator.backward(loss * (self.accelerator.num_processes * weight))
        return loss.detach()

    def _stop_between_micro_batches(self) -> None:
        """Gives up a step that has no end yet, where no other process waits for its part of it."""
        if self.stop.reason and self.accelerator.num_processes == 1:
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            raise AskedToStop

    def _missing(self, micro_batches: int) -> int:
        """How many more micro-batches another process reads, where none can compute a block without all others."""
        if not self.is_sharded:
            return 0
        numbers = self.accelerator.gather(torch.tensor([micro_batches], device=self.accelerator.device))
        return int(numbers.max()) - micro_batches

    def _refuse_not_finite(self, step: int, loss_nats: float, norm: float) -> None:
        """Every process sees the same two numbers, so all of them stop here."""
        if not (math.isfinite(loss_nats) and math.isfinite(norm)):
            raise InputError(
                f"step {step + 1}, which read {self.batches.describe(step)}: loss {loss_nats} and gradient norm "
                f"{norm}, expected finite numbers: stopped before the update; lower learning_rate, or look for broken "
                "weights in the base; --resume goes on from the last checkpoint"
            )

    def _trained(self) -> list[Tensor]:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return [parameter for group in groups for parameter in group["params"]]
