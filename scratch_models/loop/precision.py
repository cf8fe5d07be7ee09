"""The precision that a device computes fastest in, found by measuring, and refused where the device lacks it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from configs import InputError
from scratch_models.launch.launch_request import launched_precision

Precision = Literal["fp32", "bf16"]

LEAST_GAIN = 1.15  # below it a second measurement might choose otherwise
PROBE_TOKENS, PROBE_ROUNDS, WARM_UP_ROUNDS = 512, 20, 3


@dataclass(frozen=True)
class Probe:
    """Rates of one matrix product in both precisions, the casts of bfloat16 included."""

    fp32_gflops: float
    bf16_gflops: float | None
    """None where the device has no bfloat16 arithmetic."""

    @property
    def faster(self) -> Precision:
        """bf16 where it is clearly faster."""
        return "bf16" if (self.bf16_gflops or 0.0) >= LEAST_GAIN * self.fp32_gflops else "fp32"


def expect_precision(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> None:
    """Refuses bf16 on a device without bfloat16 arithmetic, and another precision than the launch asks for.

    Raises:
        InputError: the device lacks it, or the launch asks for another.

    """
    if launched_precision() is not None and precision == "fp32":
        raise InputError(
            "precision: found fp32, but this launch asks for mixed_precision bf16, expected the same: pass "
            "--precision bf16, or launch with --mixed_precision no"
        )
    if precision == "bf16" and not has_bf16(device):
        raise InputError(
            f"precision: found bf16, but {device.type} here has no bfloat16 arithmetic, expected fp32 or auto"
        )


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers itself, rather than as emulated single precision."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return True
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # from torch 2.12 on
    return bool(known.get("bf16"))  # of Arm


def probe_precision(device: torch.device, width: int) -> Probe:
    """The rates at a model's width: a product as its MLP has it, (tokens, width) times (width, 4 width)."""
    values = torch.randn(PROBE_TOKENS, width, device=device)
    weight = torch.randn(width, 4 * width, device=device)
    half = weight.to(torch.bfloat16)

    def multiply() -> torch.Tensor:
        return values @ weight

    def multiply_in_half() -> torch.Tensor:
        return (values.to(torch.bfloat16) @ half).float()

    gflop = 2 * PROBE_TOKENS * width * 4 * width / 1e9
    if not has_bf16(device):
        return Probe(gflop / _seconds([multiply], device)[0], None)
    whole, halved = _seconds([multiply, multiply_in_half], device)
    return Probe(gflop / whole, gflop / halved)


def _seconds(works: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """The shortest time of each, in turns: what disturbs a measurement only makes it longer."""
    shortest = [math.inf] * len(works)
    for turn in range(-WARM_UP_ROUNDS, PROBE_ROUNDS):
        for number, work in enumerate(works):
            _wait(device)
            start = time.perf_counter()
            work()
            _wait(device)
            if turn >= 0:
                shortest[number] = min(shortest[number], time.perf_counter() - start)
    return shortest


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
