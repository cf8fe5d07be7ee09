"""Loss, gradients and speed of preference tuning beside TRL's DPOTrainer, on the same pairs and the same weights.

    python -m tests.benchmarks.dpo_against_trl

A GPT-2 of 6 layers of 384 with GPT-2's vocabulary and LoRA of rank 8, whose adapter has moved; pairs of GSM8K: the
answer to a question against the answer to the next one. Both sides ask the adapter switched off for the reference, TRL
too before it is timed. A difference of losses is relative where they are above 1. What is timed, in processor seconds,
is loss and backward pass of 4 pairs, alternating, the median of 3. TRL is in the `bench` extra; without it, or without
GSM8K beside the repository, this is skipped. Takes a minute.
"""

import importlib.util
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from finetune.chat.graft_format import CONTROL_TOKENS, GraftFormat
from finetune.conversations.pairs import Pair, to_pair
from finetune.engine.engine import start_engine
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import TrainableModel
from finetune.preference.batches import PreferenceBatches, render_pairs
from finetune.preference.dpo_loss import Objective, PreferenceLoss
from finetune.preference.reference import pair_log_probabilities, reference_model
from finetune.preference.start_model import prepare_start
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from tests.finetune.dpo_peer import make_peer, peer_batch
from tests.finetune.preference_models import move
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, to_hf_tokenizer
from tokenizer_ext.pages.terminal import quiet_libraries

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PAIRS, BETA, ROUNDS = 4, 0.1, 3
LORA = Lora(rank=8, alpha=16.0, dropout=0.0)


def main() -> None:
    """Prints the table, or why it is skipped."""
    problems = SHARED_DATA / "gsm8k_train.jsonl"
    if importlib.util.find_spec("trl") is None or not problems.is_file():
        print("skipped: needs TRL (pip install 'graft-lm[bench]') and ../shared/data/gsm8k_train.jsonl")
        return
    quiet_libraries()
    trainable, pairs = make_trainable_model(), read_pairs(problems)
    trainer, batches = make_peer(trainable, pairs, beta=BETA), make_batches(trainable, pairs)
    print(f"{'':48}{'wanted':>10}{'seen':>12}")
    for kind in ("sigmoid", "ipo"):
        of_loss, of_gradients = compare(trainable, trainer, batches, kind)
        print(f"{f'{kind}: difference of the losses':48}{'1e-05':>10}{of_loss:12.1e}")
        print(f"{f'{kind}: difference of the gradients, relative':48}{'1e-04':>10}{of_gradients:12.1e}")
    show_speed(trainable, trainer, batches)


def make_trainable_model() -> TrainableModel:
    """The assistant with its adapter."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    no_dropout = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
    shape = {"n_layer": 6, "n_embd": 384, "n_head": 6, "vocab_size": len(tokenizer)}
    trainable = prepare_start(GPT2LMHeadModel(GPT2Config(**shape, **no_dropout)), tokenizer, LORA)
    move(trainable.model)
    return trainable


def make_tokenizer() -> PreTrainedTokenizerFast:
    """GPT-2's, with the control tokens of the chat format."""
    tokenizer = to_hf_tokenizer(read_ranks(SHARED_DATA / "gpt2.tiktoken"), {"<|endoftext|>": 50256})
    tokenizer = add_control_tokens(tokenizer, CONTROL_TOKENS)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_pairs(problems: Path) -> list[Pair]:
    """The answer to each question against the answer to the next one."""
    records = [json.loads(line) for line in problems.read_text(encoding="utf-8").splitlines()[: PAIRS + 1]]
    return [
        to_pair({"prompt": one["question"], "chosen": one["answer"], "rejected": following["answer"]}, "gsm8k")
        for one, following in itertools.pairwise(records)
    ]


def make_batches(trainable: TrainableModel, pairs: list[Pair]) -> PreferenceBatches:
    """The pairs with what the reference thinks of them."""
    batches = PreferenceBatches(render_pairs(GraftFormat(trainable.tokenizer), pairs), PAIRS, 4096, seed=0)
    with reference_model(trainable, None, lambda: (trainable.model, None)) as (model, _):
        asking = PreferenceLoss(model, Objective())
        batches.reference = pair_log_probabilities(asking, batches, range(PAIRS), make_accelerator("fp32"))
    return batches


def compare(trainable: TrainableModel, trainer: Any, batches: PreferenceBatches, kind: Any) -> tuple[float, float]:
    """How far loss and gradients of both sides lie apart, the gradients relative to their norm."""
    trainer.loss_types = [kind]
    sides = our_side(trainable, batches, Objective(kind=kind, beta=BETA)), their_side(trainer, peer_batch(trainer))
    losses = [float(loss()) for loss in sides]
    assert trainable.adapted is not None
    ours, theirs = dict(trainable.adapted.named_parameters()), dict(trainer.model.named_parameters())
    names = [name for name, parameter in theirs.items() if parameter.requires_grad]
    left, right = (torch.cat([side[name].grad.flatten() for name in names]) for side in (ours, theirs))
    return abs(losses[0] - losses[1]) / max(1.0, abs(losses[1])), float((left - right).norm() / right.norm())


Side = Callable[[], Tensor]
"""Makes loss and gradients of all pairs anew."""


def our_side(trainable: TrainableModel, batches: PreferenceBatches, objective: Objective) -> Side:
    """Ours: what the training loop does with a step."""
    loss_model = PreferenceLoss(trainable.model, objective)

    def step() -> Tensor:
        loss_model.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for micro_batch in batches.micro_batches(0, 0, 1):
            loss = loss_model(**micro_batch) / PAIRS
            loss.backward()
            total += loss.detach()
        return total

    return step


def their_side(trainer: Any, batch: dict[str, Tensor]) -> Side:
    """TRL's: `compute_loss` as its training step calls it."""
    trainer.model.train()

    def step() -> Tensor:
        trainer.model.zero_grad(set_to_none=True)
        loss: Tensor = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        return loss.detach()

    return step


def show_speed(trainable: TrainableModel, trainer: Any, batches: PreferenceBatches) -> None:
    """Times both sides with the reference known, so that TRL makes no pass for it either."""
    trainer.loss_types, trainer.precompute_ref_logps = ["sigmoid"], True
    batch = peer_batch(trainer)
    batch |= {f"ref_{side}_logps": batches.reference[:, place] for place, side in enumerate(("chosen", "rejected"))}
    settings = LoopSettings(max_steps=1, learning_rate=1.0)
    engine = start_engine(trainable.model, settings, make_accelerator("fp32"), precision="fp32")
    batches.packed = engine.packs
    sides = {"ours": our_side(trainable, batches, Objective(beta=BETA)), "TRL": their_side(trainer, batch)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name, step in sides.items():
            start = time.process_time()
            step()
            if turn:  # the first warms up
                seconds[name].append(time.process_time() - start)
    engine.release()
    median = {name: statistics.median(times) for name, times in seconds.items()}
    for name, value in median.items():
        print(f"{f'{name}: processor seconds for {PAIRS} pairs':48}{'':>10}{value:12.2f}")
    print(f"{'times as fast as TRL, fp32':48}{'':>10}{median['TRL'] / median['ours']:12.1f}")


if __name__ == "__main__":
    main()
