"""Parameters spread over processes (FSDP2), on CPU and GPU alike, and brought together again."""

from accelerate import Accelerator
from accelerate.utils import parse_flag_from_env


def wants_sharding(accelerator: Accelerator) -> bool:
    """Whether this launch asks for FSDP; accelerate itself forgets that where there is no GPU, and would run DDP."""
    return accelerator.num_processes > 1 and parse_flag_from_env("ACCELERATE_USE_FSDP")
