"""Training runs of seconds, of each entry that trains, and what they leave, to be compared bit by bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from finetune.sft import main as sft
from finetune.supervised.settings import SftSettings
from scratch_models.train import main as train
from scratch_models.train_settings import TrainSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions

BETWEEN_RUNS = ("seconds", "tokens_per_second")
"""What two equal runs may differ in."""
SHORT = {"max_steps": 12, "evaluation_steps": 3, "checkpoint_steps": 5}


def write_inputs(folder: Path) -> None:
    """A base, conversations and a text."""
    save_tiny_base(folder / "base")
    write_questions(folder / "data.jsonl", 40)
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)


def run_from_scratch(folder: Path, output_dir: Path, **settings: Any) -> None:
    """A small GPT, from its first weights."""
    shape = {"model": "gpt", "layers": 1, "width": 8, "heads": 2, "block_size": 8, "blocks_per_batch": 4}
    short = {**SHORT, **shape, "evaluation_blocks": 4, "sample_characters": 4, "keep_best": "true"}
    run_here(train, TrainSettings, **{**short, **settings}, data=folder / "text.txt", output_dir=output_dir)


def run_sft(folder: Path, output_dir: Path, **settings: Any) -> None:
    """LoRA with dropout on a small base, merged at the end."""
    short = {**SMALL, **SHORT, "conversations_per_step": 4, "lora_dropout": 0.1, "keep_best": "true", "merge": True}
    inputs = {"base": folder / "base", "data": folder / "data.jsonl"}
    run_here(sft, SftSettings, **{**short, **settings}, **inputs, output_dir=output_dir)


RUNS: dict[str, Callable[..., None]] = {"from scratch": run_from_scratch, "sft": run_sft}


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in BETWEEN_RUNS} for line in lines]


def weights_of(run: Path) -> dict[str, Tensor]:
    """Every tensor that the finished run saved."""
    files = sorted(path for part in ("final", "merged") for path in (run / part).rglob("*.safetensors"))
    assert files, "the run saved nothing"
    return {f"{path.relative_to(run)}/{name}": one for path in files for name, one in load_file(path).items()}
