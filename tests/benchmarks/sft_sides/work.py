"""The work of `sft_speed`, the same for both sides: model, adapter, conversations and their order.

The work is that of TRL's own example on GSM8K: LoRA of rank 8 on all linear layers of a GPT-2 with random weights, 8
conversations a step, the loss on the answers alone. Both sides draw the same start values and read the same rows in the
same order.
"""

import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
SHAPES: dict[str, dict[str, int]] = {"small": {"n_layer": 6, "n_embd": 384, "n_head": 6}, "gpt2": {}}
"""6 layers of 384 as in the issue, and GPT-2's own 12 of 768."""
CONVERSATIONS_PER_STEP, RANK, LEARNING_RATE = 8, 8, 1e-3


@dataclass(frozen=True)
class Work:
    """What one side is asked to do, as it stands on its command line."""

    shape: str
    layout: str
    precision: str
    steps: int
    dropout: float

    @classmethod
    def from_arguments(cls) -> "Work":
        """The work named by `sys.argv`."""
        shape, layout, precision, steps, dropout = sys.argv[1:]
        return cls(shape, layout, precision, int(steps), float(dropout))

    def arguments(self) -> list[str]:
        """The words that `from_arguments` reads."""
        return [self.shape, self.layout, self.precision, str(self.steps), str(self.dropout)]

    def make_model(self) -> PeftModel:
        """The model with its adapter, the same on both sides."""
        torch.manual_seed(0)
        dropout = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), self.dropout)
        model = GPT2LMHeadModel(GPT2Config(**SHAPES[self.shape], **dropout))
        if self.precision == "bf16_weights":
            model = model.bfloat16()
        lora = LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            target_modules=["c_attn", "c_proj", "c_fc"],
            fan_in_fan_out=True,
            task_type="CAUSAL_LM",
        )
        adapted = get_peft_model(model, lora)
        assert isinstance(adapted, PeftModel)
        return adapted

    def floor_mflop(self, tokens: int, supervised: int) -> float:
        """Operations that the steps cannot do without: forward, backward to activations and adapters, and the head.

        The first layer's input trains nothing, so its gradient is not needed; attention scores are not counted.
        """
        config = GPT2Config(**SHAPES[self.shape])
        D, layers = config.n_embd, config.n_layer
        blocks = 2 * 2 * 12 * D * D * layers - 2 * 3 * D * D
        adapters = 3 * 2 * RANK * 16 * D * layers
        return ((blocks + adapters) * tokens + 2 * 2 * config.vocab_size * D * supervised) / 1e6


def make_tokenizer() -> PreTrainedTokenizerFast:
    """GPT-2's."""
    tokenizer = to_hf_tokenizer(read_ranks(SHARED_DATA / "gpt2.tiktoken"), {"<|endoftext|>": 50256})
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def read_problems(steps: int) -> list[dict[str, str]]:
    """Prompts and completions of GSM8K, as many as the steps read."""
    with (SHARED_DATA / "gsm8k_train.jsonl").open(encoding="utf-8") as lines:
        problems = [json.loads(next(lines)) for _ in range(CONVERSATIONS_PER_STEP * steps)]
    return [
        {"prompt": f"user: {problem['question']}\nassistant: ", "completion": problem["answer"]} for problem in problems
    ]


class StepClock:
    """When each step ended, in seconds and in seconds of the processor."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def note(self) -> None:
        """A step has ended."""
        self.ends.append((time.perf_counter(), time.process_time()))

    def report(self, tokens: list[int], losses: list[float], **more: Any) -> None:
        """Prints one line of JSON; the first step, which warms up, is left out of the rates."""
        (start, busy_start), (end, busy_end) = self.ends[0], self.ends[-1]
        timed = sum(tokens[1:])
        figures = {
            "tokens_per_second": timed / (end - start),
            "tokens_per_processor_second": timed / (busy_end - busy_start),
            "seconds": end - start,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "losses": losses,
            **more,
        }
        print(json.dumps(figures), flush=True)
