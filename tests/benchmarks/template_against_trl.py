"""The losses of the first steps on a real chat model in its own template, beside those of TRL's SFTTrainer.

    pip install -e ".[bench]"
    python -m tests.benchmarks.template_against_trl --base smollm2

The work: SmolLM2-135M-Instruct, LoRA of rank 32 on all its linear layers, GSM8K in the order of the file, 8
conversations a step, no dropout, fp32, a constant rate of 2e-4. TRL renders and tokenises the conversations itself; its
ids must be ours. It also learns what the template writes behind the end of the turn, which no server generates: that is
taken out of its mask, so that both learn the same. Each side runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PER_STEP, RANK, RATE, WANTED = 8, 32, 2e-4, 1e-4


def read_problems(steps: int) -> list[dict[str, str]]:
    """As many problems of GSM8K as the steps read."""
    with (SHARED_DATA / "gsm8k_train.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(next(lines)) for _ in range(PER_STEP * steps)]


def make_model(base: str) -> Any:
    """The base with its adapter, the same on both sides."""
    from peft import LoraConfig, get_peft_model

    from finetune.export.saved_model import load_start

    model, tokenizer = load_start(base)
    torch.manual_seed(0)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora), tokenizer


def rendered(tokenizer: Any, steps: int) -> Any:
    """Our rows."""
    from finetune.chat.choose_format import choose_format
    from finetune.conversations.messages import Conversation, Message

    chat = choose_format(tokenizer, "base")
    talks = [(Message("user", one["question"]), Message("assistant", one["answer"])) for one in read_problems(steps)]
    return chat, chat.render_set([Conversation(talk, "gsm8k") for talk in talks])


def run_ours(base: str, steps: int) -> list[float]:
    """Our losses, from the loop that every entry trains with."""
    from finetune.chat.packing import join_by_tokens, to_row
    from finetune.engine.engine import start_engine
    from finetune.losses.supervised_loss import SupervisedLoss
    from scratch_models.loop.devices import make_accelerator
    from scratch_models.loop.loop_settings import LoopSettings
    from scratch_models.loop.optimizers import make_optimizers
    from scratch_models.loop.run_folder import choose_run_folder
    from scratch_models.loop.run_record import start_run
    from scratch_models.loop.training import train

    adapted, tokenizer = make_model(base)
    rows = [to_row(row) for row in rendered(tokenizer, steps)[1]]
    settings = LoopSettings(max_steps=steps, learning_rate=RATE, evaluation_steps=0, checkpoint_steps=0)
    accelerator = make_accelerator("auto")
    model = adapted.get_base_model()
    engine = start_engine(model, settings, accelerator)

    class InOrder:
        """The rows in the order of the file."""

        def describe(self, step: int) -> str:
            return f"batch {step}"

        def micro_batches(self, step: int, rank: int, world_size: int) -> Any:
            """What the loop asks for."""
            mine = sorted(rows[PER_STEP * step : PER_STEP * (step + 1)], key=lambda row: len(row[0]))
            return join_by_tokens(mine, engine.tokens_at_once(4096), packed=engine.packs)

    loss_model = SupervisedLoss(model, engine)
    folder = choose_run_folder(str(Path(tempfile.mkdtemp()) / "run"), "losses", {}, resume=False)
    run = start_run(folder, settings, accelerator, {})
    optimizers = make_optimizers(loss_model, settings)
    train(loss_model, InOrder(), optimizers, settings, accelerator=accelerator, run=run, evaluate=lambda step: {})
    return [float(entry["loss_nats"]) for entry in run.read_metrics()]


def run_trl(base: str, steps: int) -> list[float]:
    """TRL's losses on conversations that it renders itself."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):
        """Reads the rows in the order of the file."""

        def _get_train_sampler(self, *arguments: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    adapted, tokenizer = make_model(base)
    problems = read_problems(steps)
    talks = [
        {
            "prompt": [{"role": "user", "content": one["question"]}],
            "completion": [{"role": "assistant", "content": one["answer"]}],
        }
        for one in problems
    ]
    trainer = InOrder(
        model=adapted,
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(),
            max_steps=steps,
            per_device_train_batch_size=PER_STEP,
            max_length=None,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(talks),
        processing_class=tokenizer,
    )
    chat, ours = rendered(tokenizer, steps)
    mended = []
    for row, mine in zip(trainer.train_dataset, ours, strict=True):
        assert row["input_ids"] == mine.input_ids, "the ids are not those that TRL renders"
        end = len(mine.input_ids) - mine.input_ids[::-1].index(chat.end_id)
        labels = [id_ if flag else -100 for id_, flag in zip(mine.input_ids, mine.supervised, strict=True)]
        assert row["labels"][:end] == labels[:end], "the masks differ"
        mended.append({"input_ids": mine.input_ids, "labels": labels})
    trainer.train_dataset = Dataset.from_list(mended)
    trainer.train()
    return [float(entry["loss"]) for entry in trainer.state.log_history if "num_tokens" in entry and "loss" in entry]


def main() -> None:
    """Runs both sides, or one of them, and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--side", choices=("ours", "trl"))
    given = parser.parse_args()
    if given.side:
        print(json.dumps({"ours": run_ours, "trl": run_trl}[given.side](given.base, given.steps)))
        return
    losses = {}
    for side in ("ours", "trl"):
        command = [sys.executable, "-m", "tests.benchmarks.template_against_trl", "--side", side]
        command += ["--base", given.base, "--steps", str(given.steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
        losses[side] = json.loads(done.stdout.strip().splitlines()[-1])
    pairs = list(zip(losses["ours"], losses["trl"], strict=True))
    for step, (ours, trl) in enumerate(pairs, 1):
        print(f"step {step:2}  ours {ours:.6f}  TRL {trl:.6f}  difference {abs(ours - trl):.1e}")
    largest = max(abs(ours - trl) for ours, trl in pairs)
    print(f"largest difference {largest:.1e}, wanted at most {WANTED:.0e}")


if __name__ == "__main__":
    main()
