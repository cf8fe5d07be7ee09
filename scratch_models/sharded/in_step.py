"""What processes must agree on that run one model together: each does the same, and the main one decides."""

import time

from accelerate.utils import broadcast_object_list
from torch import Tensor, distributed


def from_main_process(tensor: Tensor) -> Tensor:
    """The main process's numbers, in place, in every process: what is chosen by them is the same everywhere then."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        tensor = tensor.contiguous()
        distributed.broadcast(tensor, 0)
    return tensor


def common_clock() -> float:
    """The seconds of the main process's clock, in every process; all must look at it together."""
    seconds: float = broadcast_object_list([time.monotonic()])[0]
    return seconds
