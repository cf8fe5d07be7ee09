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
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from finetune.fingerprints import tokenizer_sha256, weights_sha256
from finetune.supervised_loss import SupervisedLoss
from scratch_models.corpus import RandomBlocks, bits_per_byte, held_out_blocks, read_text, split_by_position
from scratch_models.devices import make_accelerator
from scratch_models.loop_settings import LoopSettings
from scratch_models.optimizers import adamw
from scratch_models.run_folder import RunFolder, choose_run_folder
from scratch_models.training import MicroBatch, held_out_loss, record_start, start_run, train
from tokenizer_ext.certificate import WeightHashes, hash_weights
from tokenizer_ext.embeddings import fold, new_row_parameters, separate_new_rows
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.hf_tokenizer import next_token_id, plain_text_encoder, token_bytes
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
        for name in ("block_size", "blocks_per_batch"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")


@dataclass(frozen=True)
class Corpus:
    """The ids of a text, the last tenth of it held out."""

    training_ids: Tensor
    held_out_ids: Tensor
    held_out_bytes: int
    """UTF-8 bytes of the held-out ids after the first, which nothing predicts."""
    sha256: str


def main(settings: NewRowsSettings) -> None:
    """Reads, loads, separates the new rows, trains them, folds them back, proves what stayed."""
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "new-rows", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator(settings.precision)
    tokenizer = load_tokenizer(settings.base)
    first_new_id = find_first_new_id(settings, tokenizer)
    corpus = read_corpus(settings.corpus, tokenizer)
    batches = RandomBlocks(corpus.training_ids, settings.block_size, settings.blocks_per_batch, settings.seed)
    rows_in_memory = max(1, HELD_OUT_TOKENS_PER_MICRO_BATCH // settings.block_size)
    held_out = held_out_blocks(corpus.held_out_ids, settings.block_size, rows_in_memory)
    model = load_base(settings, accelerator)
    before = hash_weights(model, first_new_id)
    separate_new_rows(model, first_new_id, next_token_id(tokenizer) - first_new_id)
    evaluation = HeldOutEvaluation(SupervisedLoss(model), held_out, corpus.held_out_bytes, accelerator)
    if settings.dry_run:
        accelerator.print(dry_run(settings, model, tokenizer, corpus))
        return
    run = start_run(run, settings, accelerator, make_facts(corpus, before, tokenizer))
    if not settings.resume:
        record_start(evaluation, run, accelerator)
    rows = list(new_row_parameters(model).values())
    optimizer = adamw([{"params": rows, "lr": settings.learning_rate, "weight_decay": settings.weight_decay}])
    train(evaluation.loss_model, batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=evaluation)
    if accelerator.is_main_process:
        finish(model, tokenizer, run, before, first_new_id)
    accelerator.end_training()


def find_first_new_id(settings: NewRowsSettings, tokenizer: PreTrainedTokenizerFast) -> int:
    """The first id whose row trains.

    Raises:
        InputError: it is not given and no certificate says it, or no id is new.

    """
    first = settings.first_new_id if settings.first_new_id is not None else _certified_tokens(Path(settings.base))
    end = next_token_id(tokenizer)
    if first is None or not 0 < first < end:
        raise InputError(
            f"first_new_id: found {first}, expected an id from 1 to {end - 1}: pass it, or give a base that "
            f"`python -m tokenizer_ext.extend` wrote, whose {CERTIFICATE} says it"
        )
    return first


def read_corpus(path: str, tokenizer: PreTrainedTokenizerFast) -> Corpus:
    """The ids of a text file, read as plain text."""
    text = read_text(path)
    training, held_out = split_by_position(text)
    encoder = plain_text_encoder(tokenizer)
    ids = [torch.tensor(encoder.encode(part, add_special_tokens=False).ids) for part in (training, held_out)]
    first_bytes = sum(len(token_bytes(tokenizer)[id_]) for id_ in ids[1][:1].tolist())
    return Corpus(ids[0], ids[1], len(held_out.encode()) - first_bytes, hashlib.sha256(text.encode()).hexdigest())


def load_base(settings: NewRowsSettings, accelerator: Accelerator) -> PreTrainedModel:
    """The extended model, on the device of this process.

    Raises:
        InputError: there is none, or it has fewer positions than a block has tokens.

    """
    model = load_model(settings.base).to(accelerator.device)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and settings.block_size > positions:
        raise InputError(f"block_size: found {settings.block_size}, expected at most the model's {positions} positions")
    return model


class HeldOutEvaluation:
    """Held-out loss by step, which the training loop calls in every process."""

    def __init__(
        self,
        loss_model: SupervisedLoss,
        micro_batches: list[MicroBatch],
        text_bytes: int,
        accelerator: Accelerator,
    ) -> None:
        self.loss_model, self.micro_batches, self.accelerator = loss_model, micro_batches, accelerator
        self.text_bytes = text_bytes

    def __call__(self, _step: int) -> dict[str, float]:
        """Nats per token, and bits per byte."""
        nats, targets = held_out_loss(self.loss_model, self.micro_batches, self.accelerator)
        return {
            "held_out_loss_nats": nats / targets,
            "held_out_bits_per_byte": bits_per_byte(nats, self.text_bytes),
        }


def dry_run(
    settings: NewRowsSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, corpus: Corpus
) -> str:
    """What a run would do: settings, parameters, tokens of an epoch, and the first block, all of which is learned."""
    trained = sum(rows.numel() for rows in new_row_parameters(model).values())
    parameters = sum(parameter.numel() for parameter in model.parameters()) - trained  # these stand in the tables too
    block = corpus.training_ids[: settings.block_size].tolist()
    return "\n".join(
        [
            *(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()),
            f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
            f"an epoch is {len(corpus.training_ids):,} tokens, 100% of them supervised",
            f"first block, all of it learned: {tokenizer.decode(block)!r}",
        ]
    )


def make_facts(corpus: Corpus, before: WeightHashes, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What the run is made of, as hashes."""
    return {
        "data_sha256": corpus.sha256,
        "base_sha256": weights_sha256(before),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }


def finish(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, run: RunFolder, before: WeightHashes, first_new_id: int
) -> None:
    """Folds the rows back, proves that no old weight moved, and saves the model with that proof."""
    fold(model)
    after = hash_weights(model, first_new_id)
    assert before == after, "an old weight moved"
    model.save_pretrained(run.final)
    tokenizer.save_pretrained(run.final)
    record = {"base_tokens": first_new_id, "weights_before": vars(before), "weights_after": vars(after)}
    (run.final / CERTIFICATE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    measured = [entry for entry in run.read_metrics() if "held_out_bits_per_byte" in entry]
    start, end = (measured[place]["held_out_bits_per_byte"] for place in (0, -1))
    print(f"held-out bits per byte: {start:.4f} with the start rows, {end:.4f} with the trained ones")
    print(f"old weights unchanged: rows sha256 {after.base_rows[:16]}…, others {after.other_weights[:16]}…")
    print(f"Saved: {run.final}")


def _certified_tokens(base: Path) -> int | None:
    path = base / CERTIFICATE
    if not path.is_file():
        return None
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["base_tokens"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: says no base_tokens, expected what tokenizer_ext.extend writes") from None


if __name__ == "__main__":
    run_entry(main, NewRowsSettings)
