"""Trains only the rows of new tokens; every other weight of the model stays as it is, bit for bit.

    python -m tokenizer_ext.extend --base DIR --corpus FILE --new_tokens 1000 --output_dir extended
    accelerate launch finetune/new_rows.py --base extended --corpus FILE

It leaves the trained model in `<run>/final`, with a certificate that compares the old weights before and after.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from finetune.supervised_loss import SupervisedLoss
from scratch_models.corpus import RandomBlocks, bits_per_byte, held_out_blocks, read_text, split_by_position
from scratch_models.devices import make_accelerator
from scratch_models.loop_settings import LoopSettings
from scratch_models.optimizers import adamw
from scratch_models.run_folder import RunFolder, choose_run_folder
from scratch_models.training import held_out_loss, start_run, train
from tokenizer_ext.certificate import WeightHashes, hash_weights
from tokenizer_ext.embeddings import fold, new_row_parameters, separate_new_rows
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.hf_tokenizer import next_token_id, plain_text_encoder
from tokenizer_ext.terminal import quiet_libraries

CERTIFICATE = "certificate.json"  # as `tokenizer_ext.extend` writes it
HELD_OUT_TOKENS_PER_MICRO_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class NewRowsSettings(LoopSettings):
    """Training of new rows alone."""

    base: str
    """Extended model: a folder that `tokenizer_ext.extend` wrote."""
    corpus: str
    """Text file (UTF-8) with the new tokens in it; the last tenth is held out."""
    first_new_id: int | None = None
    """First id whose row trains; by default what the folder's certificate says."""
    block_size: int = 256
    """Tokens of a block."""
    blocks_per_batch: int = 8
    """Blocks that one step reads, over all processes."""
    max_steps: int = 200
    """Optimizer steps."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW; the rows are never decayed towards zero unless weight_decay is set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("block_size", "blocks_per_batch"):
            if getattr(self, field) < 1:
                raise InputError(f"{field}: found {getattr(self, field)}, expected at least 1")


def main(settings: NewRowsSettings) -> None:
    """Loads, separates the new rows, trains them, folds them back, proves what stayed."""
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "new-rows", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator(settings.precision)
    text = read_text(settings.corpus)
    tokenizer = load_tokenizer(settings.base)
    first_new_id = find_first_new_id(settings, tokenizer)
    training_ids, held_out_ids, bytes_per_token = encode(tokenizer, text)
    batches = RandomBlocks(training_ids, settings.block_size, settings.blocks_per_batch, settings.seed)
    model = load_model(settings.base).to(accelerator.device)
    before = hash_weights(model, first_new_id)
    separate_new_rows(model, first_new_id, next_token_id(tokenizer) - first_new_id)
    if settings.dry_run:
        accelerator.print(describe(settings, model, tokenizer, training_ids))
        return
    facts = {"data_sha256": hashlib.sha256(text.encode()).hexdigest(), "base_sha256": before.base_rows}
    run = start_run(run, settings, accelerator, facts)
    loss_model = SupervisedLoss(model)
    rows = max(1, HELD_OUT_TOKENS_PER_MICRO_BATCH // settings.block_size)
    held_out = held_out_blocks(held_out_ids, settings.block_size, rows)

    def evaluate(_step: int) -> dict[str, float]:
        nats, targets = held_out_loss(loss_model, held_out, accelerator)
        return {
            "held_out_loss_nats": nats / targets,
            "held_out_bits_per_byte": bits_per_byte(nats, targets * bytes_per_token),
        }

    start = evaluate(0)
    accelerator.print(f"held-out bits per byte with the start rows: {start['held_out_bits_per_byte']:.4f}")
    parameters = list(new_row_parameters(model).values())
    optimizer = adamw([{"params": parameters, "lr": settings.learning_rate, "weight_decay": settings.weight_decay}])
    train(loss_model, batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=evaluate)
    if accelerator.is_main_process:
        finish(model, tokenizer, run, before, first_new_id)
    accelerator.end_training()


def find_first_new_id(settings: NewRowsSettings, tokenizer: PreTrainedTokenizerFast) -> int:
    """The first id whose row trains.

    Raises:
        InputError: it is not given and there is no certificate, or no id is new.

    """
    certificate = Path(settings.base) / CERTIFICATE
    first = settings.first_new_id
    if first is None and certificate.is_file():
        first = int(json.loads(certificate.read_text(encoding="utf-8"))["base_tokens"])
    end = next_token_id(tokenizer)
    if first is None or not 0 < first < end:
        raise InputError(
            f"first_new_id: found {first}, expected an id from 1 to {end - 1}: pass it, or give a base that "
            f"`python -m tokenizer_ext.extend` wrote, whose {CERTIFICATE} says it"
        )
    return first


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[Tensor, Tensor, float]:
    """Ids to learn from, ids held out, and UTF-8 bytes per held-out token."""
    training, held_out = split_by_position(text)
    encoder = plain_text_encoder(tokenizer)
    parts = [torch.tensor(encoder.encode(part, add_special_tokens=False).ids) for part in (training, held_out)]
    return parts[0], parts[1], len(held_out.encode()) / max(len(parts[1]), 1)


def describe(
    settings: NewRowsSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, training_ids: Tensor
) -> str:
    """What a dry run shows."""
    trained = sum(parameter.numel() for parameter in new_row_parameters(model).values())
    block = training_ids[: settings.block_size].tolist()
    lines = [f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()]
    lines += [f"parameters: {sum(p.numel() for p in model.parameters()):,}, of which {trained:,} are trained"]
    lines += [f"tokens: {len(training_ids):,} to train on (an epoch), 100 % of them supervised"]
    lines += [f"first block: {tokenizer.decode(block)!r}"]
    return "\n".join(lines)


def finish(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, run: RunFolder, before: WeightHashes, first_new_id: int
) -> None:
    """Folds and saves the model, and says whether an old weight moved."""
    fold(model)
    after = hash_weights(model, first_new_id)
    model.save_pretrained(run.final)
    tokenizer.save_pretrained(run.final)
    record = {"base_tokens": first_new_id, "weights_before": vars(before), "weights_after": vars(after)}
    (run.final / CERTIFICATE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    assert before == after, "an old weight moved"
    metrics = run.read_metrics()[-1]
    print(f"held-out bits per byte: {metrics['held_out_bits_per_byte']:.4f}")
    print(f"old weights unchanged: rows sha256 {after.base_rows[:16]}…, others {after.other_weights[:16]}…")
    print(f"Saved: {run.final}")


if __name__ == "__main__":
    run_entry(main, NewRowsSettings)
