"""Fine-tuning a Llama of 1.1 billion bfloat16 weights in two processes, neither of which may hold what the base takes.

    python -m tests.benchmarks.sharded_memory --base folder --data FILE

The base is that of `base_memory` (2.2 GB; it is made where it is not there). `finetune/sft.py` is launched from slices
with LoRA of rank 16 and checkpointed gradients, each process in a control group of its own whose memory the kernel
bounds to half the bare weights, one block, and 0.7 GB. It trains, evaluates, asks, leaves checkpoints and saves; then
its last step is taken away and it is resumed.

A control group bounds all that a process holds: its own memory, and the pages of files that it reads, which the kernel
takes back first. It needs a right to make control groups (https://docs.kernel.org/admin-guide/cgroup-v2.html), which
root has on most machines.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from configs import InputError, run_entry
from tests.house.repository import ROOT

STEPS, TOKENS, RANK = 2, 512, 16
BESIDE_GB = 0.7
"""What Python, torch, adapters, their optimizer and a step may take."""


@dataclass(frozen=True, kw_only=True)
class ShardedMemorySettings:
    """What is trained."""

    base: str
    """Folder of the base; it is made where it is not there."""
    data: str
    """Conversations, as `finetune/sft.py` reads them."""
    limit_gb: float | None = None
    """Most that a process may hold; by default half the bare weights, one block and 0.7 GB."""


def main(settings: ShardedMemorySettings) -> None:
    """Trains, and resumes."""
    from tests.benchmarks.base_memory import make_base

    base = Path(settings.base)
    if not (base / "config.json").is_file():
        make_base(base)
    limit = round(1e9 * settings.limit_gb) if settings.limit_gb else limit_of(base)
    print(
        f"each process may hold {limit / 1e9:.2f} GB; the weights are {sum(map(size, base.glob('*.safetensors'))):.2f}"
    )
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        show("trained from slices", tune(settings, run, limit))
        shutil.rmtree(run / "final", ignore_errors=True)
        last = run / "checkpoints" / f"step_{STEPS:08d}"
        shutil.rmtree(last, ignore_errors=True)
        show("resumed", tune(settings, run, limit, "--resume"))


def size(file: Path) -> float:
    """In GB."""
    return file.stat().st_size / 1e9


def limit_of(base: Path) -> int:
    """Half the bare weights, one block, and what else there is, in bytes."""
    from tokenizer_ext.foreign.files_in_folder import weight_files
    from tokenizer_ext.foreign.weight_headers import read_headers

    stored = read_headers(weight_files(base))
    block = sum(2 * one.numbers for name, one in stored.items() if ".layers.0." in name)
    return round(sum(2 * one.numbers for one in stored.values()) / 2 + block + 1e9 * BESIDE_GB)


@dataclass(frozen=True)
class Ended:
    """How a launch ended."""

    status: int
    minutes: float
    most_gb: float
    """The most that any of its processes held of its own."""
    said: str


def tune(settings: ShardedMemorySettings, run: Path, limit: int, *more: str) -> Ended:
    """A launch whose processes are each bounded."""
    sft = ["--base", settings.base, "--data", settings.data, "--output_dir", str(run), "--lora_rank", str(RANK)]
    sft += ["--max_steps", str(STEPS), "--checkpoint_steps", "1", "--checkpoints_kept", "0", "--evaluation_steps", "1"]
    sft += [
        "--conversations_per_step",
        "4",
        "--tokens_per_micro_batch",
        str(TOKENS),
        "--gradient_checkpointing",
        "true",
    ]
    sft += [
        "--evaluation_conversations",
        "2",
        "--evaluation_replies",
        "1",
        "--reply_tokens",
        "4",
        "--precision",
        "fp32",
    ]
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file"]
    bounded = [__file__, str(limit), str(ROOT / "finetune/sft.py")]
    command = [*launcher, str(ROOT / "configs/accelerate/two_cpu_shards.yaml"), *bounded, *sft, *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began, most = time.monotonic(), 0.0
    with (run.parent / "said").open("w+") as said:
        started = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        while started.poll() is None:
            most = max([most, *map(own_gb, psutil.Process(started.pid).children(recursive=True))])
            time.sleep(0.1)
        said.seek(0)
        for group in control_groups().glob("graft_*"):
            group.rmdir()
        return Ended(started.returncode, (time.monotonic() - began) / 60, most, said.read())


def own_gb(process: psutil.Process) -> float:
    """What a process holds that is no page of a file; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((1024 * int(line.split()[1]) / 1e9 for line in lines if line.startswith("RssAnon:")), 0.0)


def show(what: str, ended: Ended) -> None:
    """A line for a launch, and its last words where it failed."""
    print(f"{what:<22} status {ended.status}  most {ended.most_gb:.2f} GB  {ended.minutes:.1f} min", flush=True)
    if ended.status:
        print("\n".join(ended.said.splitlines()[-6:]), flush=True)


def bound_this_process(limit: int) -> None:
    """Puts this process into a control group of its own with a limit, in bytes.

    Raises:
        InputError: no control group can be made here.

    """
    root = control_groups()
    group = root / f"graft_{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if root.name == "cgroup" else "memory.limit_in_bytes")).write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        raise InputError(f"{group}: no control group can be made ({error.strerror}): run it as root") from None


def control_groups() -> Path:
    """Where groups whose memory is bounded are made, in either version of them."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    return old if old.is_dir() else new


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1].isdigit():  # a process that is to be bounded, and what it is to run
        bound_this_process(int(sys.argv[1]))
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
    run_entry(main, ShardedMemorySettings)
