"""Measures training of 1,000 new rows on GPT-2's vocabulary: step time, memory, losses, and what stayed.

    OMP_NUM_THREADS=1 python tests/benchmarks/new_row_training.py

The work is that of a 4 x 768 GPT-2 on batches of 4 x 64 tokens. Beside our rows stand the fully frozen base with one
rank-1 adapter, once with our loss and once with transformers' logits of the whole batch, PEFT's
`trainable_token_indices`, and the full matrix. Our rows train together with that same adapter, so that the frozen base
with our loss differs by the rows alone. Steps alternate; memory is measured in a process of its own for each way, as
the bytes that torch allocated (exact) and as the peak resident size. Takes about four minutes on one core.
"""

import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tokenizer_ext.embeddings.tables import find_tables, fold, grow_rows, new_row_parameters, separate_new_rows
from tokenizer_ext.pages.terminal import quiet_libraries

OLD_ROWS, NEW_ROWS, WIDTH = 50257, 1000, 768
ADAPTER = {"r": 1, "target_modules": ["transformer.h.0.attn.c_attn"], "fan_in_fan_out": True}
WARM_STEPS, TIMED_STEPS, MEMORY_STEPS = 1, 9, 2
OUR_FROZEN, OUR_ROWS = "frozen base, our loss", "our new rows"
UNTIED = ", untied"
PEERS = ("frozen base, all logits", "PEFT trainable tokens", "full matrix")
TIMED = (OUR_FROZEN, OUR_ROWS, "our new rows, no adapter", OUR_FROZEN + UNTIED, OUR_ROWS + UNTIED, *PEERS)

Step = Callable[[Tensor], Tensor]


def main() -> None:
    """Prints the table."""
    quiet_libraries()
    print(f"{'':<76}{'wanted':>13}{'seen':>10}")
    show_times()
    show_memory()
    for tied, suffix in ((True, ""), (False, UNTIED)):
        difference = curve_difference(tied)
        show(f"losses of 30 steps, against the full matrix held by hand{suffix}", "<= 1e-5", f"{difference:.1e}")
        stayed = "equal" if weights_stay(tied) else "DIFFERENT"
        show(f"old rows and other weights: 200 steps, decay, folded, reloaded{suffix}", "sha256 equal", stayed)


def show(what: str, wanted: str, seen: str) -> None:
    """Prints a line."""
    print(f"{what:<76}{wanted:>13}{seen:>10}", flush=True)


def make_model(tied: bool, *, layers: int = 4, width: int = WIDTH, heads: int = 12, dropout: float = 0.1) -> Any:
    """A random GPT-2 with start rows for the new ids."""
    torch.manual_seed(0)
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    shape = {"n_layer": layers, "n_embd": width, "n_head": heads, "tie_word_embeddings": tied}
    model = GPT2LMHeadModel(GPT2Config(**shape, **drops))
    rows = torch.randn(NEW_ROWS, width) * 0.02
    grow_rows(model, OLD_ROWS, rows, None if tied else rows.flip(0))
    return model


def make_step(way: str, model: Any) -> tuple[nn.Module, Step]:
    """What trains in a way, and its loss of a batch of ids."""
    if way.startswith("our new rows"):
        separate_new_rows(model, OLD_ROWS, NEW_ROWS)
    rows = list(new_row_parameters(model).values())
    if way == "full matrix":
        model.requires_grad_(False)
        model.transformer.wte.weight.requires_grad_(True)
    elif way == "PEFT trainable tokens":
        new_ids = list(range(OLD_ROWS, OLD_ROWS + NEW_ROWS))
        model = get_peft_model(model, LoraConfig(**ADAPTER, trainable_token_indices=new_ids))
    elif "no adapter" not in way:
        model = get_peft_model(model, LoraConfig(**ADAPTER)).get_base_model()
        for one in rows:  # get_peft_model froze them with the rest
            one.requires_grad_(True)
    return (model, loss_of_all_logits(model)) if way in PEERS else (model, our_loss(model))


def our_loss(model: Any) -> Step:
    """The mean loss through `SupervisedLoss`."""
    loss_model = SupervisedLoss(model)

    def loss(ids: Tensor) -> Tensor:
        targets = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], IGNORED_TARGET)], dim=1)
        nats: Tensor = loss_model(ids, targets)
        return nats / ids[:, 1:].numel()

    return loss


def loss_of_all_logits(model: Any) -> Step:
    """The mean loss from transformers' logits of the whole batch."""
    return lambda ids: F.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def clock() -> float:
    """Seconds; of one thread its own, which other work on the machine does not stretch."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class Training:
    """A model in one way, its optimizer, and a step that can be timed."""

    def __init__(self, way: str, model: Any | None = None, weight_decay: float = 0.0) -> None:
        self.model = model or make_model(tied=UNTIED not in way)
        trained, self.loss = make_step(way, self.model)
        parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=weight_decay)
        self.seconds: list[float] = []

    def step(self, ids: Tensor) -> float:
        """The loss of a step."""
        started = clock()
        loss = self.loss(ids)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds.append(clock() - started)
        return loss.item()


def draw_ids(rows: int = 4, tokens: int = 64) -> Tensor:
    """A batch of old and new ids."""
    return torch.randint(0, OLD_ROWS + NEW_ROWS, (rows, tokens))


def show_times() -> None:
    """Medians of alternating steps, and the ratios that are asked for."""
    trainings = {way: Training(way) for way in TIMED}
    for _ in range(WARM_STEPS + TIMED_STEPS):
        ids = draw_ids()
        for training in trainings.values():
            training.step(ids)
    seconds = {way: statistics.median(training.seconds[WARM_STEPS:]) for way, training in trainings.items()}
    for way, median in seconds.items():
        show(f"step, median of {TIMED_STEPS}: {way}", "", f"{median:.3f} s")
    for way, beside, wanted in (
        (OUR_ROWS, OUR_FROZEN, "<= 1.05"),
        (OUR_ROWS, PEERS[0], "<= 1.05"),
        ("our new rows, no adapter", OUR_FROZEN, ""),
        (OUR_ROWS + UNTIED, OUR_FROZEN + UNTIED, "<= 1.05"),
        (PEERS[1], PEERS[0], ""),
        (PEERS[2], PEERS[0], ""),
    ):
        show(f"  {way} / {beside}", wanted, f"{seconds[way] / seconds[beside]:.3f}")


def show_memory() -> None:
    """Extra peak memory over the frozen base, and the largest tensor of our steps."""
    ways = (OUR_FROZEN, OUR_ROWS, OUR_FROZEN + UNTIED, OUR_ROWS + UNTIED, *PEERS)
    found = {way: measure_apart(way) for way in ways}
    for way, beside, wanted in (
        (OUR_ROWS, OUR_FROZEN, "<= 25 MB"),
        (OUR_ROWS + UNTIED, OUR_FROZEN + UNTIED, "<= 40 MB"),
        (PEERS[1], PEERS[0], ""),
        (PEERS[2], PEERS[0], ""),
    ):
        allocated, resident = (found[way][kind] - found[beside][kind] for kind in ("allocated", "resident"))
        show(f"extra peak memory: {way}, allocated", wanted, f"{allocated / 1e6:.1f} MB")
        show(f"extra peak memory: {way}, resident", "", f"{resident / 1e6:.1f} MB")
    table, logits = (OLD_ROWS + NEW_ROWS) * WIDTH * 4, (OLD_ROWS + NEW_ROWS) * 4 * 63 * 4
    for way in (OUR_ROWS, OUR_ROWS + UNTIED, *PEERS):
        wanted = f"< {min(table, logits) / 1e6:.1f} MB" if way not in PEERS else ""
        show(f"largest tensor allocated in a step: {way}", wanted, f"{found[way]['largest'] / 1e6:.1f} MB")


def measure_apart(way: str) -> dict[str, int]:
    """Bytes at the peak of a few steps, allocated by torch and resident, each in a process of its own."""
    found: dict[str, int] = {}
    # What is freed goes back to the system at once, so that the resident size follows what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    for kind in ("allocated", "resident"):
        command = [sys.executable, __file__, kind, way]
        found |= json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    return found


def allocated_bytes(way: str) -> dict[str, int]:
    """The most bytes that torch held at once in making what trains and in some steps, and the largest allocation."""
    model = make_model(tied=UNTIED not in way)
    batches = [draw_ids() for _ in range(MEMORY_STEPS)]
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        training = Training(way, model)
        for ids in batches:
            training.step(ids)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        profile.export_chrome_trace(file.name)
        events = json.loads(Path(file.name).read_text())["traceEvents"]
    memory = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    sizes = [event["args"]["Bytes"] for event in memory]  # below 0 where it is given back
    return {"allocated": max(itertools.accumulate(sizes)), "largest": max(sizes)}


def resident_bytes(way: str) -> dict[str, int]:
    """How far the resident size rose in making what trains and in some steps."""
    model = make_model(tied=UNTIED not in way)
    start = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
    training = Training(way, model)
    for _ in range(MEMORY_STEPS):
        training.step(draw_ids())
    return {"resident": status_bytes("VmHWM") - start}


def status_bytes(field: str) -> int:
    """A size that Linux keeps of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def small_model(tied: bool) -> Any:
    """All rows of GPT-2, but narrow."""
    return make_model(tied, layers=1, width=64, heads=2, dropout=0.0)


def curve_difference(tied: bool) -> float:
    """The largest difference between our losses and those of whole matrices whose other rows are put back."""
    rows, whole = Training("our new rows, no adapter", small_model(tied)), small_model(tied).requires_grad_(False)
    tables = [tensor.requires_grad_(True) for tensor in {find_tables(whole).embedding.weight, whole.lm_head.weight}]
    start = [table.detach().clone() for table in tables]
    optimizer, loss_of = torch.optim.AdamW(tables, lr=1e-3, weight_decay=0.0), loss_of_all_logits(whole)
    differences = []
    for _ in range(30):
        ids = draw_ids(2, 32)
        ids[:, ::2] = OLD_ROWS + ids[:, ::2] % NEW_ROWS
        optimizer.zero_grad()
        loss = loss_of(ids)
        loss.backward()
        optimizer.step()
        for table, old in zip(tables, start, strict=True):
            table.data[:OLD_ROWS] = old[:OLD_ROWS]
        differences.append(abs(loss.item() - rows.step(ids)))
    return max(differences)


def weights_stay(tied: bool) -> bool:
    """Whether the hashes of old rows and other weights are the same after training, folding, saving and reloading."""
    model = small_model(tied)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/before")
        training = Training("our new rows, no adapter", model, weight_decay=0.1)
        for _ in range(200):
            training.step(draw_ids(2, 32))
        fold(model)
        model.save_pretrained(f"{folder}/after")
        GPT2LMHeadModel.from_pretrained(f"{folder}/after").save_pretrained(f"{folder}/again")
        return hashes(f"{folder}/before") == hashes(f"{folder}/after") == hashes(f"{folder}/again")


def hashes(folder: str) -> dict[str, str]:
    """sha256 of every weight in a folder, of the tables without the new rows."""
    weights = load_file(f"{folder}/model.safetensors")
    kept = {name: one[:OLD_ROWS] if len(one) == OLD_ROWS + NEW_ROWS else one for name, one in weights.items()}
    return {name: hashlib.sha256(one.contiguous().numpy().tobytes()).hexdigest() for name, one in kept.items()}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps({"allocated": allocated_bytes, "resident": resident_bytes}[sys.argv[1]](sys.argv[2])))
    else:
        main()
