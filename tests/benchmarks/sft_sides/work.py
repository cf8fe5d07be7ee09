"""The work of `sft_speed`, the same for both sides: model, adapter, conversations and their order.

The work is that of TRL's own example on GSM8K: LoRA of rank 8 on all linear layers of a GPT-2 with random weights, or
of rank 32 on those of SmolLM2-135M-Instruct, 8 conversations a step, the loss on the answers alone. Both sides draw the
same start values and read the same rows in the same order.
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
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.pytorch_utils import Conv1D

from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.huggingface.gguf_base import SMOLLM2, plain_folder
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
GPT2_SHAPES: dict[str, dict[str, int]] = {"small": {"n_layer": 6, "n_embd": 384, "n_head": 6}, "gpt2": {}}
"""6 layers of 384 as in the issue, and GPT-2's own 12 of 768."""
RANKS = {"small": 8, "gpt2": 8, SMOLLM2: 32}
LEARNING_RATES = {"small": 1e-3, "gpt2": 1e-3, SMOLLM2: 2e-4}
CONVERSATIONS_PER_STEP = 8


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
        model = self._smollm2() if self.shape == SMOLLM2 else self._gpt2()
        if self.precision == "bf16_weights":
            model = model.bfloat16()
        rank = RANKS[self.shape]
        lora = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules="all-linear",
            fan_in_fan_out=self.shape != SMOLLM2,
            task_type="CAUSAL_LM",
        )
        adapted = get_peft_model(model, lora)
        assert isinstance(adapted, PeftModel)
        return adapted

    def _gpt2(self) -> PreTrainedModel:
        dropout = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), self.dropout)
        return GPT2LMHeadModel(GPT2Config(**GPT2_SHAPES[self.shape], **dropout))

    def _smollm2(self) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            plain_folder(SMOLLM2), dtype=torch.float32, attention_dropout=self.dropout
        )
        return model

    def make_tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's own."""
        if self.shape == SMOLLM2:
            own: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(plain_folder(SMOLLM2))
            return own
        tokenizer = to_hf_tokenizer(read_ranks(SHARED_DATA / "gpt2.tiktoken"), {"<|endoftext|>": 50256})
        tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
        return tokenizer

    def read_problems(self, steps: int) -> list[dict[str, str]]:
        """Prompts and completions of GSM8K, as many as so many steps read; in SmolLM2's own chat template."""
        with (SHARED_DATA / "gsm8k_train.jsonl").open(encoding="utf-8") as lines:
            problems = [json.loads(next(lines)) for _ in range(CONVERSATIONS_PER_STEP * steps)]
        if self.shape != SMOLLM2:
            prompts = [f"user: {problem['question']}\nassistant: " for problem in problems]
        else:
            asked = [[{"role": "user", "content": problem["question"]}] for problem in problems]
            prompts = self.make_tokenizer().apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return [
            {"prompt": prompt, "completion": problem["answer"]}
            for prompt, problem in zip(prompts, problems, strict=True)
        ]


def floor_mflop(model: PreTrainedModel, tokens: int, supervised: int) -> float:
    """Operations that steps cannot do without: forward, backward to activations and adapters, and the head.

    The first layer's input trains nothing, so its gradient is not needed; attention scores are not counted.
    """
    linear = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear | Conv1D)}
    adapters = sum(one.weight.numel() for name, one in linear.items() if ".lora_" in name)
    frozen = {name: one.weight.numel() for name, one in linear.items() if name.endswith("base_layer")}
    read_first = sum(size for name, size in frozen.items() if ".0." in name and any(one in name for one in READ_FIRST))
    of_tokens = 2 * 2 * sum(frozen.values()) - 2 * read_first + 3 * 2 * adapters
    return (of_tokens * tokens + 2 * 2 * model.get_input_embeddings().weight.numel() * supervised) / 1e6


READ_FIRST = ("attn.c_attn", "q_proj", "k_proj", "v_proj")
"""Layers that read what a block is given."""


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
            "processor_seconds": busy_end - busy_start,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "losses": losses,
            **more,
        }
        print(json.dumps(figures), flush=True)
