"""What `accelerate launch` was told, by its flags, its `--config_file` or its `default_config.yaml`: done, or refused.

accelerate hands most of it on in variables of the environment, and leaves it to the script whether they have an effect.
What it takes for DeepSpeed alone it drops without a word: that is read from the launcher's own command line.
"""

import os
import re
from collections.abc import Sequence
from typing import Literal

import psutil
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import parse_flag_from_env

from configs import InputError

WHERE = "this launch (accelerate's flags, --config_file or default_config.yaml)"
UNSERVED = {
    "ACCELERATE_USE_DEEPSPEED": (
        "DeepSpeed",
        "launch with configs/accelerate/gpus_fsdp2.yaml, which spreads parameters, gradients and optimizer state as "
        "ZeRO-3 does",
    ),
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "launch with configs/accelerate/gpus_fsdp2.yaml"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("fsdp_activation_checkpointing", "pass --gradient_checkpointing true instead"),
}
"""A variable of accelerate's -> what it stands for, and what to do instead."""
DROPPED = {
    "gradient_accumulation_steps": "pass --accumulation_steps to finetune/sft.py, --tokens_per_micro_batch, or "
    "--blocks_per_micro_batch to scratch_models/train.py",
    "gradient_clipping": "pass --gradient_clip",
}
"""A flag that accelerate drops where there is no DeepSpeed -> what to do instead."""
LAUNCHER = re.compile(r"(\A|/)(accelerate(-launch)?|accelerate[./]commands[./](launch|accelerate_cli)(\.py)?)\Z")


def refuse_launch() -> None:
    """Refuses what accelerate would leave out silently, or do in its own way.

    Raises:
        InputError: there is such a thing; it says what to do instead.

    """
    for variable, (what, advice) in UNSERVED.items():
        if parse_flag_from_env(variable):
            raise InputError(f"{WHERE} asks for {what}, which the training loop does not drive: {advice}")
    _refuse_parallelism()
    if wants_offload() and not torch.accelerator.is_available():
        raise InputError(
            "fsdp_offload_params: found true where there is no GPU, on which it would keep slices, their gradients and "
            "the optimizer's state in the memory of the CPU, and bring a block at a time to the GPU: set it to false"
        )
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no":
        raise InputError(
            f"{WHERE} asks for dynamo_backend {backend}, expected no: the training loop compiles by itself, pass "
            "--compile true instead"
        )
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    for name, value in ({"gradient_accumulation_steps": steps} | asked_of_launcher(_launcher())).items():
        if (name, value) != ("gradient_accumulation_steps", "1"):
            raise InputError(f"{WHERE} asks for {name} {value}, which reaches DeepSpeed alone: {DROPPED[name]}")


def wants_offload() -> bool:
    """Whether a sharded launch asks that slices stay in the memory of the CPU."""
    return parse_flag_from_env("ACCELERATE_USE_FSDP") and parse_flag_from_env("FSDP_OFFLOAD_PARAMS")


def _refuse_parallelism() -> None:
    """Refuses every plan of accelerate's but replicas of a sharded model; that one `make_mesh` follows."""
    if not parse_flag_from_env("ACCELERATE_USE_PARALLELISM_CONFIG"):
        return
    others = [
        name for name in ("tp", "cp", "sp") if os.environ.get(f"PARALLELISM_CONFIG_{name.upper()}_SIZE", "1") != "1"
    ]
    if others or not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        asked = f"with {others[0]}_size" if others else "without FSDP"
        raise InputError(
            f"{WHERE} asks for a parallelism_config {asked}, which the training loop does not drive, expected "
            "dp_replicate_size alone, beside FSDP: launch with configs/accelerate/gpus_ddp.yaml or gpus_fsdp2.yaml, "
            "which spread the data, or the model too"
        )


def launched_precision() -> Literal["bf16"] | None:
    """bf16 where the launch asks for it.

    Raises:
        InputError: it asks for another precision.

    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked == "no":
        return None
    if asked != "bf16":
        raise InputError(
            f"{WHERE} asks for mixed_precision {asked}, expected bf16 or no: what trains here stays in single precision"
        )
    return "bf16"


def asked_of_launcher(command: Sequence[str]) -> dict[str, str]:
    """What a command line of `accelerate launch` asks for and drops; nothing where it is another program's.

    >>> asked_of_launcher(["python", "bin/accelerate", "launch", "--gradient-clipping=2", "finetune/sft.py"])
    {'gradient_clipping': '2.0'}
    """
    start = next((place for place, word in enumerate(command[:3], 1) if LAUNCHER.search(word)), None)
    if start is None:
        return {}
    words = command[start:]
    parsed, _ = launch_command_parser().parse_known_args(words[1:] if words[:1] == ["launch"] else words)
    found = {name: getattr(parsed, name) for name in DROPPED}
    return {name: str(value) for name, value in found.items() if value is not None}


def launcher_name() -> str | None:
    """`accelerate launch` where it started this process; None where something else did."""
    return "accelerate launch" if any(map(LAUNCHER.search, _launcher()[:3])) else None


def _launcher() -> list[str]:
    """The command line of the process that started this one; empty where it cannot be read."""
    try:
        parent = psutil.Process().parent()
        return [] if parent is None else list(parent.cmdline())
    except psutil.Error:
        return []
