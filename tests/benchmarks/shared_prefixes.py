"""What it saves to compute once what all conversations of a step begin with: SmolLM2 on the demo's conversations.

    python -m tests.benchmarks.shared_prefixes [CONVERSATIONS_PER_STEP]

SmolLM2's chat template puts one system prompt before every conversation. Tokens a second of a step, forwards and
backwards, LoRA of rank 16, packed without and with the shared prefix, taking turns; the losses of both, which are
equal; and the floor: the products of the frozen weights at the measured rate of a product of the model's width. Five
minutes on two cores.
"""

import statistics
import sys
import time

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.chat.batches import ConversationBatches
from finetune.chat.choose_format import choose_format
from finetune.conversations.splits import read_conversation_splits
from finetune.engine.engine import start_engine
from finetune.lora.lora import Lora, attach_lora
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import count_targets, count_tokens
from tests.benchmarks.tokenisation import show
from tokenizer_ext.huggingface.gguf_base import SMOLLM2, plain_folder
from tokenizer_ext.pages.terminal import quiet_libraries

ROUNDS = 4
TOKENS_PER_MICRO_BATCH = 1024


def main() -> None:
    """Prints tokens a second, the ratio and the floor."""
    quiet_libraries()
    per_step = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    folder = plain_folder(SMOLLM2)
    chat = choose_format(AutoTokenizer.from_pretrained(folder))
    rendered = chat.render_set(read_conversation_splits("embedded").training[::40])
    model = AutoModelForCausalLM.from_pretrained(folder)
    attach_lora(model, Lora(rank=16, alpha=32.0, dropout=0.0))
    engine = start_engine(model, LoopSettings(max_steps=1, learning_rate=1e-3, precision="fp32"), Accelerator(cpu=True))
    loss_model = SupervisedLoss(model, engine).train()
    seen: dict[bool, list[float]] = {False: [], True: []}
    losses: dict[bool, list[float]] = {False: [], True: []}
    for step in range(ROUNDS + 1):
        for shares in (False, True):
            batches = ConversationBatches(
                rendered, per_step, TOKENS_PER_MICRO_BATCH, 0, packed=True, shares_prefixes=shares
            )
            micro_batches = batches.micro_batches(step, 0, 1)
            start = time.perf_counter()
            nats = 0.0
            for one in micro_batches:
                loss = loss_model(**one)
                loss.backward()
                nats += loss.item()
            seconds = time.perf_counter() - start
            model.zero_grad()
            losses[shares].append(nats / sum(map(count_targets, micro_batches)))
            if step:  # the first warms up
                seen[shares].append(sum(map(count_tokens, micro_batches)) / seconds)
    plain, shared = (statistics.median(seen[way]) for way in (False, True))
    apart = max(abs(a - b) for a, b in zip(losses[False], losses[True], strict=True))
    rate, work = _rate(model.config.hidden_size), _floating_point_operations(model)
    show("largest difference of a step's loss, nats per token", "1e-5", f"{apart:.1e}")
    show(f"tokens/s, {per_step} conversations a step", "", f"{plain:,.0f}")
    show("the same, what they begin with computed once", "", f"{shared:,.0f}")
    show("ratio", "", f"{shared / plain:.2f}")
    show(
        f"floor without sharing: {work / 1e9:.2f} GFLOP a token at {rate / 1e9:,.0f} GFLOP/s", "", f"{rate / work:,.0f}"
    )


def _floating_point_operations(model: torch.nn.Module) -> float:
    """Of a token through the blocks: forwards, and backwards into the activations alone."""
    frozen = [p.numel() for name, p in model.named_parameters() if not p.requires_grad and "layers" in name]
    return 2.0 * 2.0 * sum(frozen)


def _rate(width: int) -> float:
    """Floating-point operations a second of 1,024 rows by a weight of the model's width, at best."""
    left, right = torch.randn(1024, width), torch.randn(width, width)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return 2.0 * 1024 * width**2 / min(seconds)


if __name__ == "__main__":
    main()
