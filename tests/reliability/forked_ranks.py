"""Two processes of one run, as `accelerate launch` would start them, forked from one that has imported everything.

That takes seconds less than a launch. What a launcher does itself, such as to end the others when one of them dies, is
tried with real ones.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from tests.reliability.killed_runs import end_as_a_process

WORLD_SIZE = 2
LAUNCHED = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "CUDA_VISIBLE_DEVICES": "-1,-1",
    "MASTER_ADDR": "127.0.0.1",
    "WORLD_SIZE": str(WORLD_SIZE),
    "LOCAL_WORLD_SIZE": str(WORLD_SIZE),
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
"""What accelerate puts into the environment for `two_cpu_processes.yaml`."""
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What it adds for `two_cpu_shards.yaml`."""


def run_ranks(work: Callable[[int], Any], logs: Path, *, sharded: bool = False, seconds: float = 300) -> list[int]:
    """The status of the work in each process, which is given its rank; `logs` gets what each of them said."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # a launcher holds it for its workers
    logs.mkdir(exist_ok=True)
    children: list[int] = []
    for rank in range(WORLD_SIZE):
        child = os.fork()
        if child == 0:
            os.environ |= LAUNCHED | (SHARDED if sharded else {})
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(store.port)}
            end_as_a_process(partial(work, rank), logs / f"rank-{rank}.txt")
        children.append(child)
    return _wait(children, seconds)


def _wait(children: list[int], seconds: float) -> list[int]:
    """The statuses; whoever is left when the time is over is killed."""
    deadline, ended = time.monotonic() + seconds, dict[int, int]()
    while len(ended) < len(children):
        for child in children:
            if child in ended:
                continue
            if time.monotonic() > deadline:
                os.kill(child, 9)
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                ended[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return [ended[child] for child in children]
