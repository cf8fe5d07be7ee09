"""Where a run computes: device, precision and threads."""

import os
from typing import Literal

import torch
from accelerate import Accelerator


def make_accelerator(precision: Literal["fp32", "bf16"]) -> Accelerator:
    """The accelerator of this process: a GPU where there is one, else the cores that its neighbours leave it."""
    # Told nothing, accelerate starts processes that do not know each other where there is no GPU.
    accelerator = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no", cpu=not torch.accelerator.is_available()
    )
    # `accelerate launch` sets OMP_NUM_THREADS=1, which leaves all cores but one idle.
    if "ACCELERATE_MIXED_PRECISION" in os.environ and accelerator.device.type == "cpu":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // accelerator.num_processes))
    return accelerator
