"""What `finetune.compare --data` takes for SmolLM2 and an adapter on it: in one batch, and one after the other.

    python -m tests.benchmarks.compare_together --data ../shared/data/gsm8k_train.jsonl

Whole commands in processes of their own, which take turns; medians of the seconds, of those that a core computed (which
other work on the machine moves less), and of the largest memory held.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from configs import run_entry
from tests.house.repository import ROOT
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_model import load_model

APART = "import finetune.export.opened_sides as sides; sides.difference_below = lambda *_: 'measured one by one'; "
RUN = "from configs import run_entry; import finetune.compare as entry; run_entry(entry.main, entry.CompareSettings)"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is asked."""

    data: str
    """Questions with known replies."""
    questions: int = 16
    """How many of them."""
    reply_tokens: int = 48
    """Longest reply in tokens."""
    rounds: int = 3
    """How often each way takes its turn."""


def save_adapter(base: str, folder: Path) -> None:
    """A random adapter of rank 8 on all linear layers."""
    torch.manual_seed(0)
    lora = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(load_model(base), lora)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.005)
    adapted.save_pretrained(folder)


def take(code: str, arguments: list[str]) -> tuple[float, float, float]:
    """Seconds of a process, those that it computed, and the most memory that it held in MB."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"ended with {status}: {arguments}"
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def describe(way: str, seconds: float, computed: float, memory: float) -> str:
    """One line of figures."""
    return f"{way}: {seconds:.1f} s, {computed:.1f} s computed, {memory:,.0f} MB"


def main(given: Given) -> None:
    """Prints seconds and memory of both ways, and whether both wrote the same replies."""
    ways = {"in one batch": RUN, "one after the other": APART + RUN}
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    base = plain_folder("smollm2")
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(base, adapter := Path(folder) / "adapter")
        asked = ["--data", str(Path(given.data).resolve()), "--conversations", str(given.questions)]
        asked += ["--base", base, "--tuned", str(adapter), "--reply_tokens", str(given.reply_tokens)]
        records = {}
        for number in range(given.rounds):
            for way, code in ways.items():
                output = Path(folder) / f"{number} {way}.json"
                found[way].append(take(code, [*asked, "--output", str(output)]))
                records[way] = json.loads(output.read_text(encoding="utf-8"))["replies"]["questions"]
                print(describe(way, *found[way][-1]), flush=True)
    for way, taken in found.items():
        print(describe(f"{way}, median", *(statistics.median(of_one) for of_one in zip(*taken, strict=True))))
    same = records["in one batch"] == records["one after the other"]
    print(f"replies: {'the same' if same else 'not the same'}")


if __name__ == "__main__":
    run_entry(main, Given)
