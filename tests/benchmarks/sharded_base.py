"""Fine-tuning from slices: how far its losses are from those of one process, however the processes share the base.

    python -m tests.benchmarks.sharded_base [llama] [gpt2] [--full]

LoRA, or with `--full` every weight, on a tiny base that knows its chat format, 30 steps of `finetune/sft.py` in single
precision, on the CPU of this machine through gloo: in one process, in two with the whole base in each (DDP), from
slices in two and in four (FSDP2), in two replicas of two shards (HSDP), and resumed from two to four to one.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from finetune.chat.graft_format import CONTROL_TOKENS
from tests.finetune.extended_models import save_base
from tests.finetune.tiny_models import write_questions
from tests.house.repository import ROOT
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

STEPS, EACH = 30, 10
FILES = ROOT / "configs" / "accelerate"
REPLICAS = ("--use_fsdp", "--fsdp_version", "2", "--use_parallelism_config")
WAYS: dict[str, tuple[str, ...]] = {
    "one process": (),
    "DDP, 2": ("two_cpu_processes.yaml",),
    "FSDP2 from slices, 2": ("two_cpu_shards.yaml",),
    "FSDP2 from slices, 4": ("two_cpu_shards.yaml", "--num_processes", "4"),
    "HSDP, 2 x 2": (
        *("two_cpu_shards.yaml", "--num_processes", "4", *REPLICAS),
        *("--parallelism_config_dp_replicate_size", "2"),
    ),
}
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "warmup_steps": 2,
    "learning_rate": 0.01,
    "lora_rank": 4,
    "conversations_per_step": 16,
    "evaluation_steps": 15,
    "evaluation_conversations": 5,
    "reply_tokens": 8,
    "checkpoint_steps": EACH,
    "checkpoints_kept": 0,
    "precision": "fp32",
}


def main() -> None:
    """Prints a line for each base and way."""
    if "--full" in sys.argv:
        SETTINGS.update(method="full", learning_rate=0.001)
        del SETTINGS["lora_rank"]
    print(f"{'30 steps':<8} {'in':<22} {'largest difference of a loss':>29} {'of a held-out loss':>19} {'wanted':>8}")
    for kind in [word for word in sys.argv[1:] if word != "--full"] or ("llama", "gpt2"):
        with TemporaryDirectory() as folder:
            measure(kind, Path(folder))


def measure(kind: str, folder: Path) -> None:
    """All ways on one base."""
    plain = str(save_base(kind, folder / "plain"))
    base = (load_model(plain), load_tokenizer(plain))
    extend_vocabulary(base, control_tokens=list(CONTROL_TOKENS)).save(folder / "base")
    write_questions(folder / "data.jsonl")
    for way in WAYS:
        tune(folder, way, folder / way)
        show(kind, way, folder / way, folder / "one process")
    resumed = folder / "resumed"
    for before, step, way in (("FSDP2 from slices, 2", EACH, "FSDP2 from slices, 4"), ("", 2 * EACH, "one process")):
        keep(folder / before if before else resumed, resumed, step)
        tune(folder, way, resumed, "--resume")
    show(kind, "resumed 2 -> 4 -> 1", resumed, folder / "one process")


def tune(folder: Path, way: str, run: Path, *more: str) -> None:
    """One run, in the processes of a way."""
    file = WAYS[way]
    launcher = ["-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"] if file else []
    launcher += ["--config_file", str(FILES / file[0]), *file[1:]] if file else []
    said = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    places = ["--base", str(folder / "base"), "--data", str(folder / "data.jsonl"), "--output_dir", str(run)]
    command = [sys.executable, *launcher, str(ROOT / "finetune/sft.py"), *places, *said, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert "whole base" not in ended.stdout, "it was not read by slices"


def keep(run: Path, target: Path, step: int) -> None:
    """A run as it was after a step, without what came later."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = "".join(line for line in lines if json.loads(line)["step"] <= step)
    (target / "checkpoints").mkdir(parents=True, exist_ok=True)
    (target / "metrics.jsonl").write_text(kept)
    if run != target:
        shutil.copy(run / "run.json", target)
        name = f"step_{step:08d}"
        shutil.copytree(run / "checkpoints" / name, target / "checkpoints" / name)
    shutil.rmtree(target / "final", ignore_errors=True)
    for later in (target / "checkpoints").iterdir():
        if int(later.name.removeprefix("step_")) > step:
            shutil.rmtree(later)


def show(kind: str, way: str, run: Path, alone: Path) -> None:
    """A line of the table."""
    found = [largest(run, alone, name) for name in ("loss_nats", "held_out_loss_nats")]
    print(f"{kind:<8} {way:<22} {found[0]:>29.1e} {found[1]:>19.1e} {'<= 1e-5':>8}", flush=True)


def largest(run: Path, alone: Path, name: str) -> float:
    """The largest difference of a figure from that of one process."""
    ours, theirs = ([one[name] for one in lines(folder) if name in one] for folder in (run, alone))
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


def lines(run: Path) -> list[dict[str, float]]:
    """What the run noted of each step."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    main()
