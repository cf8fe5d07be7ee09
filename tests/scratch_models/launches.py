"""Every way to launch several processes that can be tried on the CPU of one machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.house.repository import ROOT

FILES = ROOT / "configs" / "accelerate"
SHARDS = "two_cpu_shards.yaml"
SHARDING = "ACCELERATE_USE_FSDP=true"
"""How torchrun and srun are told what stands in that file."""
LAUNCHES = {
    "two processes": (("two_cpu_processes.yaml",),),
    "four processes": (("two_cpu_processes.yaml", "--num_processes", "4"),),
    "two shards": ((SHARDS,),),
    "four shards": ((SHARDS, "--num_processes", "4"),),
    "two machines": tuple(("two_machines.yaml", "--machine_rank", rank) for rank in "01"),
    "torchrun": (("torchrun", "--nproc_per_node", "2"),),
    "torchrun shards": (("torchrun", "--nproc_per_node", "2", SHARDING),),
    "srun": (("srun", "--ntasks", "2"),),
    "srun shards": (("srun", "--ntasks", "2", SHARDING),),
}
"""For each machine its launcher or accelerate file, and what is said beside it; all machines are this one."""
PROCESSES = dict.fromkeys(LAUNCHES, 2) | {"four processes": 4, "four shards": 4}


def launch(script: str, machines: tuple[tuple[str, ...], ...], folder: Path, **environment: str) -> None:
    """Runs a script of the repository under each machine's launcher; it is given the folder."""
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    port = str(_free_port() if len(machines) > 1 else 0)
    started = []
    for launcher, *options in machines:
        told = dict(option.split("=") for option in options if option.startswith("ACCELERATE_"))
        command = command_of(launcher, [option for option in options if not option.startswith("ACCELERATE_")], port)
        command += [str(ROOT / script), str(folder)]
        started.append(subprocess.Popen(command, env=surroundings | told, stderr=subprocess.PIPE, text=True))
    try:
        said = [process.communicate(timeout=150)[1] for process in started]
    finally:  # processes that wait for each other for ever
        for process in started:
            process.terminate()
    assert [process.returncode for process in started] == [0] * len(started), said


def command_of(launcher: str, options: list[str], port: str) -> list[str]:
    """What starts a script by torchrun, by the stand-in for srun, or with a file of `configs/accelerate`."""
    python = sys.executable
    if launcher == "torchrun":
        return [python, "-m", "torch.distributed.run", *options]
    if launcher == "srun":
        return [python, str(ROOT / "tests/scratch_models/srun.py"), *options, python]
    accelerate = [python, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(FILES / launcher)]
    return [*accelerate, *options, "--main_process_port", port]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
