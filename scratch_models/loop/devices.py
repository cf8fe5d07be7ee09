"""Where a run computes: device, precision, threads, and the processes beside it."""

import os
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy

from configs import InputError
from scratch_models.launch.launch_request import launcher_name, refuse_launch, wants_offload
from scratch_models.launch.launched_process import join_launch, threads_here
from scratch_models.launch.trackers import tracker_names
from scratch_models.loop.run_folder import RUNS

REPLICAS, SHARDS = "PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "PARALLELISM_CONFIG_DP_SHARD_SIZE"
"""What accelerate calls them in the environment."""


def make_accelerator(
    precision: Literal["auto", "fp32", "bf16"], log_with: str | None = None, run_path: Path | None = None
) -> Accelerator:
    """The accelerator of this process: a GPU where there is one, else the cores that its neighbours leave it.

    Args:
        precision: bf16 runs matrix products under autocast; auto leaves that to what is measured later.
        log_with: Names of accelerate's trackers, separated by commas.
        run_path: Where trackers that write files put them, below the run's folder.

    Raises:
        InputError: a tracker is unknown or not installed, or the launch asks for what the loop does not do.

    """
    os.environ |= join_launch(launcher=launcher_name())
    refuse_launch()
    os.environ["ACCELERATE_USE_PARALLELISM_CONFIG"] = "false"  # `make_mesh` follows it; accelerate would refuse a CPU
    # Else transformers would load the base in the first process alone, and the others would start from empty weights.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    # Told nothing, accelerate starts processes that do not know each other where there is no GPU.
    accelerator = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        cpu=not torch.accelerator.is_available(),
        log_with=tracker_names(log_with) or None,
        project_dir=None if log_with is None else str(run_path or RUNS),
        # Else DDP holds a copy of every gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    # A launcher sets OMP_NUM_THREADS=1 unless it is set, which leaves all cores but one idle.
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or accelerator.num_processes > 1
    if launched and os.environ.get("OMP_NUM_THREADS") == "1" and accelerator.device.type == "cpu":
        torch.set_num_threads(threads_here(os.environ, _usable_cores(), accelerator.num_processes))
    return accelerator


def sum_over_processes(numbers: list[float], accelerator: Accelerator) -> list[float]:
    """Each number added up over all processes, known to every one."""
    if accelerator.num_processes == 1:
        return numbers
    summed: Tensor = accelerator.reduce(torch.tensor(numbers, dtype=torch.float64, device=accelerator.device), "sum")
    return [float(number) for number in summed]


def make_mesh(accelerator: Accelerator) -> DeviceMesh:
    """The processes as FSDP shares a model out to them: in a row, or as replicas by shards (HSDP).

    Replicas are `dp_replicate_size` of accelerate's parallelism config.

    Raises:
        InputError: there are fewer processes than that, or they cannot be shared out so.

    """
    processes = accelerator.num_processes
    replicas, shards = (int(os.environ.get(name, "1")) for name in (REPLICAS, SHARDS))
    if replicas == 1 and shards in (1, processes):
        return init_device_mesh(accelerator.device.type, (processes,))
    each = shards if shards > 1 else processes // max(replicas, 1)
    if replicas < 1 or each < 2 or replicas * each != processes:
        raise InputError(
            f"parallelism_config: found {replicas} replicas of {each} shards in {processes} processes, expected "
            f"{max(replicas, 1) * max(each, 2)} processes, of which each replica has two at least: change "
            "--num_processes, --parallelism_config_dp_replicate_size or --parallelism_config_dp_shard_size"
        )
    return init_device_mesh(accelerator.device.type, (replicas, each), mesh_dim_names=("dp_replicate", "dp_shard"))


def offload_policy() -> OffloadPolicy:
    """Where FSDP keeps slices: on the device, or in the memory of the CPU where the launch asks for that."""
    return CPUOffloadPolicy() if wants_offload() else OffloadPolicy()


def _usable_cores() -> int:
    # Linux alone says which cores this process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
