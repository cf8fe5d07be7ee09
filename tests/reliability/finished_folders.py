"""Every kind of folder that a command leaves and another one reads, made in seconds, and how it is read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetune.adapter_set import AdapterSetSettings
from finetune.adapter_set import main as gather
from finetune.compare import CompareSettings
from finetune.compare import main as compare
from finetune.export.adapter_set import load_adapters
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import load_assistant, load_start
from finetune.merge import MergeSettings
from finetune.merge import main as merge
from finetune.new_rows import main as train_new_rows
from finetune.rows.extended_base import read_extended_base
from finetune.rows.settings import NewRowsSettings
from finetune.sft import main as sft
from finetune.supervised.settings import SftSettings
from scratch_models.sample import SampleSettings
from scratch_models.sample import main as sample
from scratch_models.scratch_folder import load_scratch_model
from scratch_models.train import main as train
from scratch_models.train_settings import TrainSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tokenizer_ext.delta import DeltaSettings
from tokenizer_ext.delta import main as delta
from tokenizer_ext.extend import ExtendSettings
from tokenizer_ext.extend import main as extend
from tokenizer_ext.extension.delta import apply_delta
from tokenizer_ext.trim import TrimSettings
from tokenizer_ext.trim import main as trim

SHORT = {**SMALL, "max_steps": 2, "warmup_steps": 0, "evaluation_steps": 2, "evaluation_conversations": 2}
SCRATCH = {"model": "gpt", "layers": 1, "width": 8, "heads": 2, "block_size": 8, "blocks_per_batch": 4}
TEXT = "Zygomorphic flowers have one plane of symmetry, and zygomorphic ones are many.\n\n" * 30
PROMPT = "What colour has the apple?"


@dataclass(frozen=True)
class Kind:
    """A kind of folder, and what reads it."""

    folder: str
    """Its name among those of `make_folders`."""
    read: Callable[[Path], Any]
    """Reads it in Python, given where all are."""
    command: Callable[[Path], None]
    """A command that reads it, given where all are."""


def make_folders(place: Path) -> None:
    """Leaves the folders of all kinds in one."""
    save_tiny_base(place / "base", initializer_range=0.2)
    data = write_questions(place / "data.jsonl", 30)
    (place / "text.txt").write_text(TEXT)
    run = partial(run_here, sft, SftSettings, data=data, **SHORT)
    run(base=place / "base", output_dir=place / "run", merge=True, new_tokens=5)
    run(base=place / "run/final/base", output_dir=place / "second", new_tokens=0)
    run(base=place / "base", output_dir=place / "full", method="full")
    text = {"corpus": place / "text.txt"}
    run_here(extend, ExtendSettings, base=place / "base", new_tokens=8, output_dir=place / "extended", **text)
    run_here(delta, DeltaSettings, extended=place / "extended", output_dir=place / "delta")
    run_here(trim, TrimSettings, model=place / "base", output_dir=place / "trimmed", **text)
    tuned = {"tuned.first": place / "run", "tuned.second": place / "second"}
    run_here(gather, AdapterSetSettings, output_dir=place / "set", **tuned)
    scratch = {"data": place / "text.txt", "max_steps": 2, "evaluation_steps": 2, "evaluation_blocks": 2}
    run_here(train, TrainSettings, output_dir=place / "scratch", sample_characters=2, **scratch, **SCRATCH)


def _compare(folder: str) -> Callable[[Path], None]:
    return lambda place: run_here(
        compare, CompareSettings, tuned=place / folder, base=place / "base", prompt=PROMPT, reply_tokens=2
    )


def _train_on(folder: str) -> Callable[[Path], None]:
    return lambda place: run_here(
        sft, SftSettings, base=place / folder, data=place / "data.jsonl", output_dir=place / "new", **SHORT
    )


def _gather(place: Path) -> None:
    tuned = {"tuned.first": place / "set/first", "tuned.second": place / "set/second"}
    run_here(gather, AdapterSetSettings, output_dir=place / "new", **tuned)


def _apply(place: Path) -> None:
    run_here(delta, DeltaSettings, base=place / "base", delta=place / "delta", output_dir=place / "new")


def _new_rows(place: Path) -> None:
    run_here(
        train_new_rows, NewRowsSettings, base=place / "extended", corpus=place / "text.txt", output_dir=place / "new"
    )


def _read_set(place: Path) -> None:
    load_adapters({"first": place / "set/first", "second": place / "set/second"})


KINDS = {
    "adapter, compared": Kind("run/final", lambda place: load_assistant(place / "run"), _compare("run")),
    "adapter, merged": Kind(
        "run/final/adapter",
        lambda place: merge_with_receipt(place / "run", place / "new"),
        lambda place: run_here(merge, MergeSettings, tuned=place / "run", output_dir=place / "new"),
    ),
    "base of an adapter": Kind(
        "run/final/base",
        lambda place: merge_with_receipt(place / "run", place / "new"),
        lambda place: run_here(merge, MergeSettings, tuned=place / "run", output_dir=place / "new"),
    ),
    "adapter on a named base": Kind("second/final", lambda place: load_start(place / "second"), _train_on("second")),
    "fully tuned": Kind("full/final", lambda place: load_start(place / "full"), _train_on("full")),
    "merged": Kind("run/merged", lambda place: load_assistant(place / "run/merged"), _compare("run/merged")),
    "extended": Kind("extended", lambda place: read_extended_base(str(place / "extended"), None), _new_rows),
    "trimmed": Kind("trimmed", lambda place: load_start(place / "trimmed"), _train_on("trimmed")),
    "delta": Kind("delta", lambda place: apply_delta(place / "base", place / "delta"), _apply),
    "adapter set": Kind("set", _read_set, _gather),
    "from scratch": Kind(
        "scratch/final",
        lambda place: load_scratch_model(place / "scratch"),
        lambda place: run_here(sample, SampleSettings, checkpoint=place / "scratch"),
    ),
}
