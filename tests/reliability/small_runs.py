"""Training runs of seconds, of each entry that trains, and what they leave, to be compared bit by bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from finetune.dpo import DpoSettings
from finetune.dpo import main as dpo
from finetune.new_rows import NewRowsSettings
from finetune.new_rows import main as new_rows
from finetune.pretrain import PretrainSettings
from finetune.pretrain import main as pretrain
from finetune.sft import main as sft
from finetune.supervised.settings import SftSettings
from scratch_models.train import main as train
from scratch_models.train_settings import TrainSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.extended_models import TEXTS, extend
from tests.finetune.pair_records import write_pairs
from tests.finetune.tiny_models import questions, save_tiny_base, write_questions

BETWEEN_RUNS = ("seconds", "tokens_per_second")
"""What two equal runs may differ in."""
SHORT = {"max_steps": 12, "evaluation_steps": 3, "checkpoint_steps": 5}


def write_inputs(folder: Path) -> None:
    """A base, conversations and a text."""
    save_tiny_base(folder / "base")
    write_questions(folder / "data.jsonl", 40)
    write_pairs(folder / "pairs.jsonl", 40)
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    notes = [
        {"text": f"{asked} {answer} Note {n * n}, then {n * 7}."} for n, (asked, answer) in enumerate(questions(40))
    ]
    (folder / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))


def write_extended(folder: Path) -> None:
    """The base with new tokens, and the text that they are of."""
    extend(folder / "base").save(folder / "extended")
    (folder / "words.txt").write_text("\n\n".join(TEXTS))


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


def run_bigram(folder: Path, output_dir: Path, **settings: Any) -> None:
    """The smallest model, from its first weights."""
    run_from_scratch(folder, output_dir, **{"model": "bigram", **settings})


def run_full(folder: Path, output_dir: Path, **settings: Any) -> None:
    """Every weight, the global batch in four micro-batches."""
    changes = {"method": "full", "lora_dropout": 0.0, "merge": "false", "accumulation_steps": 4, "learning_rate": 1e-3}
    run_sft(folder, output_dir, **{**changes, **settings})


def run_dpo(folder: Path, output_dir: Path, **settings: Any) -> None:
    """Preferences, with an adapter."""
    of_sft = ("conversations_per_step", "evaluation_conversations")
    small = {name: value for name, value in SMALL.items() if name not in of_sft}
    short = {**small, **SHORT, "pairs_per_step": 4, "keep_best": "true"}
    inputs = {"base": folder / "base", "data": folder / "pairs.jsonl"}
    run_here(dpo, DpoSettings, **{**short, **settings}, **inputs, output_dir=output_dir)


def run_new_rows(folder: Path, output_dir: Path, **settings: Any) -> None:
    """Rows of new tokens alone."""
    short = {**SHORT, "block_size": 24, "blocks_per_batch": 4, "learning_rate": 0.02, "warmup_steps": 0}
    inputs = {"base": folder / "extended", "corpus": folder / "words.txt"}
    run_here(new_rows, NewRowsSettings, **{**short, **settings}, **inputs, output_dir=output_dir)


def run_pretrain(folder: Path, output_dir: Path, **settings: Any) -> None:
    """Raw text read by an adapter, a second text between it."""
    short: dict[str, Any] = {**SHORT, "block_size": 24, "blocks_per_batch": 4, "warmup_steps": 0, "lora_rank": 4}
    short |= {
        "learning_rate": 0.01,
        "evaluation_blocks": 4,
        "sample_tokens": 4,
        "lora_dropout": 0.1,
        "keep_best": "true",
    }
    inputs = {"base": folder / "base", "corpus": f"[{folder / 'words.txt'}:1, {folder / 'notes.jsonl'}:0.5]"}
    run_here(pretrain, PretrainSettings, **{**short, **settings}, **inputs, output_dir=output_dir)


RUNS: dict[str, Callable[..., None]] = {"from scratch": run_from_scratch, "sft": run_sft}
ALL_RUNS = {**RUNS, "bigram": run_bigram, "full": run_full, "dpo": run_dpo, "new rows": run_new_rows}
ALL_RUNS |= {"pretrain": run_pretrain}


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in BETWEEN_RUNS} for line in lines]


def weights_of(run: Path) -> dict[str, Tensor]:
    """Every tensor that the finished run saved."""
    files = sorted(path for part in ("final", "merged") for path in (run / part).rglob("*.safetensors"))
    assert files, "the run saved nothing"
    return {f"{path.relative_to(run)}/{name}": one for path in files for name, one in load_file(path).items()}
