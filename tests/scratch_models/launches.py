"""Every way to launch several processes that can be tried on the CPU of one machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.house.repository import ROOT

FILES = ROOT / "configs" / "accelerate"
SHARDS = "two_cpu_shards.yaml"
LAUNCHES = {
    "two processes": (("two_cpu_processes.yaml",),),
    "four processes": (("two_cpu_processes.yaml", "--num_processes", "4"),),
    "two shards": ((SHARDS,),),
    "four shards": ((SHARDS, "--num_processes", "4"),),
    "two machines": tuple(("two_machines.yaml", "--machine_rank", rank) for rank in "01"),
}
"""For each machine its accelerate file and what is said beside it; all machines are this one."""
PROCESSES = {"two processes": 2, "four processes": 4, "two shards": 2, "four shards": 4, "two machines": 2}


def launch(script: str, machines: tuple[tuple[str, ...], ...], folder: Path, **environment: str) -> None:
    """Runs a script of the repository under each machine's launcher; it is given the folder."""
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    port = str(_free_port() if len(machines) > 1 else 0)
    started = []
    for file, *options in machines:
        command = ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(FILES / file), *options]
        command += ["--main_process_port", port, str(ROOT / script), str(folder)]
        started.append(
            subprocess.Popen([sys.executable, *command], env=surroundings, stderr=subprocess.PIPE, text=True)
        )
    try:
        said = [process.communicate(timeout=150)[1] for process in started]
    finally:  # processes that wait for each other for ever
        for process in started:
            process.terminate()
    assert [process.returncode for process in started] == [0] * len(started), said


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
