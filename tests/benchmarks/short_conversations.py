"""Whether short conversations train as fast as long ones: SmolLM2, at about 55 tokens and at about 190.

    python -m tests.benchmarks.short_conversations [--rounds 5]

Pieces of GSM8K in SmolLM2's own chat template, 45 to 65 tokens each and 155 to 225, about 1,750 tokens a step of each
kind, packed, LoRA of rank 32 on all linear layers, fp32; three fifths of the tokens are learned in both. Forwards and
backwards, taking turns in one process, medians over the rounds. Beside them the floor, the products at the rate of this
minute. All in seconds of the processor, which other work on the machine
changes least. Five minutes on one core.
"""

import argparse
import random
import statistics
import time

import torch
from accelerate import Accelerator

from finetune.chat.packing import Row, join_by_tokens
from finetune.engine.engine import start_engine
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch, count_targets
from tests.benchmarks.matmul_rate import product_gflops
from tests.benchmarks.sft_sides.work import Work, floor_mflop
from tests.benchmarks.tokenisation import show
from tokenizer_ext.huggingface.gguf_base import SMOLLM2
from tokenizer_ext.pages.terminal import quiet_libraries

KINDS = {"about 55 tokens": (32, 45, 65), "about 190 tokens": (9, 155, 225)}
"""Conversations a step, and their fewest and most tokens."""
LEARNED_SHARE = 0.6


def make_rows(texts: list[list[int]], kind: str, step: int) -> list[Row]:
    """Conversations of a step, sorted by length."""
    number, fewest, most = KINDS[kind]
    drawn = random.Random(step)
    rows: list[Row] = []
    for length in sorted(drawn.randint(fewest, most) for _ in range(number)):
        ids = drawn.choice(texts)[: length + 1]
        given = round((1 - LEARNED_SHARE) * length)
        rows.append((ids[:-1], [IGNORED_TARGET] * given + ids[1 + given :]))
    return rows


def take_step(loss_model: SupervisedLoss, micro_batches: list[MicroBatch]) -> float:
    """Seconds of the processor for a step."""
    start = time.process_time()
    for one in micro_batches:
        loss_model(**one).backward()
    seconds = time.process_time() - start
    loss_model.zero_grad()
    return seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    quiet_libraries()
    work = Work(SMOLLM2, "packed", "fp32", 16, 0.0)
    tokenizer = work.make_tokenizer()
    texts = [tokenizer(one["prompt"] + one["completion"])["input_ids"] for one in work.read_problems(64)]
    texts = [ids for ids in texts if len(ids) > KINDS["about 190 tokens"][2]]
    model = work.make_model().get_base_model()
    engine = start_engine(model, LoopSettings(max_steps=1, learning_rate=1e-3, precision="fp32"), Accelerator(cpu=True))
    loss_model = SupervisedLoss(model, engine).train()
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    shares: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for step in range(arguments.rounds + 1):
        gflops = statistics.median(product_gflops(torch.float32, 5, time.process_time))
        for kind in KINDS:
            rows = make_rows(texts, kind, step)
            micro_batches = join_by_tokens(rows, engine.tokens_at_once(4096), packed=engine.packs)
            tokens, learned = sum(len(row[0]) for row in rows), sum(map(count_targets, micro_batches))
            seconds = take_step(loss_model, micro_batches)
            if step:  # the first warms up
                rates[kind].append(tokens / seconds)
                shares[kind].append(floor_mflop(model, tokens, learned) / 1e3 / seconds / gflops)
    for kind in KINDS:
        show(f"tokens a processor second, conversations of {kind}", "", f"{statistics.median(rates[kind]):,.0f}")
        show("   share of the matmul rate", "", f"{statistics.median(shares[kind]):.0%}")
    ratios = [short / long for short, long in zip(*rates.values(), strict=True)]
    show("short against long, median of the rounds", ">= 0.85", f"{statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
