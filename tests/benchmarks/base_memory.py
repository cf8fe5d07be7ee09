"""What a step of LoRA takes in memory on a Llama of 1.1 billion random bfloat16 weights, held in 16, 8 and 4 bits.

    python -m tests.benchmarks.base_memory --base folder
    python -m tests.benchmarks.base_memory --base folder --bits 4

Writes the base into the folder where it is not there (2.2 GB), then has a process of its own for each number of bits
open it as a run does, attach an adapter of rank 16, and make two steps of 512 tokens with checkpointed gradients. What
is said is the most that the process held: in all, and without the pages of the base's files that are mapped, which the
system can take back. With `--limit_gb` the process may hold no more of its own than that (RLIMIT_DATA).
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from configs import run_entry
from finetune.lora.adapter_shape import BaseBits

TOKENS, STEPS, RANK = 512, 2, 16
SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
"""Of TinyLlama 1.1B (Zhang et al. 2024, https://arxiv.org/abs/2401.02385, table 1)."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """What is measured."""

    base: str
    """Folder of the base; it is made where it is not there."""
    bits: BaseBits | None = None
    """One of them alone; by default 16, 8 and 4, one after the other."""
    limit_gb: float | None = None
    """Most that a process may hold of its own."""
    here: bool = False
    """Measure in this very process, which is what the others are started with."""


def main(settings: MemorySettings) -> None:
    """Makes the base, then measures."""
    folder = Path(settings.base)
    if not (folder / "config.json").is_file():
        make_base(folder)
    if settings.here:
        print(json.dumps(measure(folder, settings.bits or 16, settings.limit_gb)))
        return
    for bits in (16, 8, 4) if settings.bits is None else (settings.bits,):
        command = [sys.executable, "-m", "tests.benchmarks.base_memory", "--base", settings.base, "--bits", str(bits)]
        limit = [] if settings.limit_gb is None else ["--limit_gb", str(settings.limit_gb)]
        subprocess.run([*command, *limit, "--here", "true"], check=True)


def make_base(folder: Path) -> None:
    """The random base, layer by layer in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from finetune.chat.graft_format import CONTROL_TOKENS
    from scratch_models.embedded.default import EMBEDDED_BASE
    from tokenizer_ext.huggingface.hf_model import load_tokenizer

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False))
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(1) if parameter.ndim == 1 else parameter.data.normal_(0, 0.02)
    model.save_pretrained(folder, max_shard_size="500MB")
    tokenizer = load_tokenizer(str(EMBEDDED_BASE))
    tokenizer.add_tokens(list(CONTROL_TOKENS), special_tokens=True)  # so that none of its rows is new
    tokenizer.save_pretrained(folder)


def measure(folder: Path, bits: BaseBits, limit_gb: float | None) -> dict[str, object]:
    """Opens, attaches, steps; the peaks in GB and the seconds of a step."""
    import torch

    from finetune.engine.engine import start_engine
    from finetune.export.saved_model import load_start
    from finetune.lora.adapter_shape import Lora
    from finetune.lora.held_base import HeldAs
    from finetune.lora.trainable_model import make_optimizer, train_from
    from finetune.losses.supervised_loss import SupervisedLoss
    from scratch_models.loop.devices import make_accelerator
    from scratch_models.loop.loop_settings import LoopSettings
    from tokenizer_ext.extension.plan import Plan

    if limit_gb is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gb * 1e9),) * 2)
    peak = Peak()
    lora = Lora(rank=RANK, alpha=32.0, dropout=0.0)
    model, tokenizer = load_start(str(folder), torch.device("cpu"), HeldAs(bits))
    trainable = train_from(model, Plan(base=tokenizer, tokenizer=tokenizer), lora)
    peak.look()
    run = LoopSettings(max_steps=STEPS, learning_rate=1e-4, gradient_checkpointing=True)
    engine = start_engine(trainable.model, run, make_accelerator("fp32"))
    loss_model = SupervisedLoss(trainable.model, engine).train()
    optimizer = make_optimizer(trainable, 1e-4, 1e-4, 0.0)
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        ids = torch.randint(3, SHAPE["vocab_size"], (1, TOKENS + 1))
        nats = loss_model(ids[:, :-1], ids[:, 1:])
        (nats / TOKENS).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(round(time.perf_counter() - began, 1))
    return {
        "bits": bits,
        **peak.figures(),
        "seconds_of_steps": seconds,
        "loss_nats": round(float(nats.detach()) / TOKENS, 4),
    }


class Peak:
    """The most that this process has held, looked at in a thread of its own."""

    def __init__(self) -> None:
        import threading

        self.own = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def look(self) -> None:
        """Takes what is held now into account."""
        self.own = max(self.own, _bytes("RssAnon"))

    def figures(self) -> dict[str, float]:
        """In GB: all that was resident at most, and what of it is no page of a file."""
        return {"resident_gb": round(_bytes("VmHWM") / 1e9, 2), "own_gb": round(self.own / 1e9, 2)}

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(0.02)


def _bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    run_entry(main, MemorySettings)
