"""The end of a training of new rows: the proof that nothing else moved, the saved model, and what was gained."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from configs.manifest import sealed_folder
from configs.whole_folder import write_whole
from finetune.rows.base_reading import BaseLoss, Parts, in_base_ids
from finetune.rows.dataset import HeldOut, RowDataset
from finetune.rows.emission import Emission, measure_emission
from finetune.rows.extended_base import ExtendedBase
from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.loop.best_checkpoint import MEASURE, saved_evaluation
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.embeddings.saved_weights import reopen
from tokenizer_ext.embeddings.tables import fold
from tokenizer_ext.encoders.spm_model import save_with_model_file
from tokenizer_ext.extension.certificate import Certificate, WeightHashes, hash_weights, write_certificate
from tokenizer_ext.huggingface.hf_model import positions_of
from tokenizer_ext.pages.progress import shown, tracked

REPORT = "new_rows.json"
RARELY = 100  # times that a row is read in training


@dataclass(frozen=True)
class RowReport:
    """What new rows cost and gain."""

    base_bits_per_byte: float | None
    """Of the base with its own tokenizer on the same windows of text; None where it cannot read the text."""
    start_bits_per_byte: float
    """With the start rows."""
    trained_bits_per_byte: float
    """With the trained rows that were saved."""
    new_tokens: int
    """Rows trained."""
    never_seen: int
    """Those that the text to learn from does not hold as a token: parts of longer new tokens."""
    rarely_seen: int
    """Those that were read less than 100 times in all steps, the former among them."""
    emission: Emission

    def describe(self) -> str:
        """The report for the terminal."""
        figures = {
            "the base with its own tokenizer": self.base_bits_per_byte,
            "start rows": self.start_bits_per_byte,
            "trained rows": self.trained_bits_per_byte,
        }
        lines = [f"    {name:<31}  {_figure(value)}" for name, value in figures.items()]
        seen = (
            f"of {self.new_tokens:,} new rows, {self.rarely_seen:,} were read less than {RARELY} times in training, "
            f"{self.never_seen:,} of them never"
        )
        return "\n".join(["held-out bits per byte of", *lines, seen, self.emission.describe()])


def finish(
    model: PreTrainedModel,
    base: ExtendedBase,
    dataset: RowDataset,
    parts: Parts,
    before: WeightHashes,
    run: RunFolder,
    accelerator: Accelerator,
    epochs: float,
) -> None:
    """Folds the rows back, proves that no old weight moved, saves model and proof, and shows what was gained."""
    fold(model)
    after = hash_weights(model, base.first_new_id)
    assert before == after, "an old weight moved"
    save_trained(model, base, carry_on(base, before, after), run.final)
    start = next(entry for entry in run.read_metrics() if MEASURE in entry)
    seen = count_seen(dataset, base, epochs)
    report = RowReport(
        base_bits_per_byte=measure_base(model, base.first_new_id, parts, dataset.held_out, accelerator),
        start_bits_per_byte=start[MEASURE],
        trained_bits_per_byte=saved_evaluation(run)[MEASURE],
        new_tokens=base.new_tokens,
        never_seen=sum(times == 0 for times in seen),
        rarely_seen=sum(times < RARELY for times in seen),
        emission=measure_emission(
            model, base.tokenizer, parts.keys(), dataset.held_out.micro_batches, dataset.prompts, dataset.end_id
        ),
    )
    write_whole(run.path / REPORT, json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    print(report.describe())
    print(f"old weights unchanged: rows sha256 {after.base_rows[:16]}…, others {after.other_weights[:16]}…")
    print(f"Saved: {run.final}")


@shown("saving")
def save_trained(model: PreTrainedModel, base: ExtendedBase, certificate: Certificate, final: Path) -> None:
    """Writes `final/`, a plain Hugging Face folder with the certificate beside the weights, complete or not at all."""
    with sealed_folder(final, needed=model.get_memory_footprint()) as partial:
        model.save_pretrained(partial)
        save_with_model_file(base.tokenizer, partial)
        weights = hash_weights(reopen(partial, model, base.tokenizer, logits=False), base.first_new_id)
        write_certificate(dataclasses.replace(certificate, weights_after=weights, reopened=True), partial)


def carry_on(base: ExtendedBase, before: WeightHashes, after: WeightHashes) -> Certificate:
    """The certificate of the extension, with the hashes of now; without one, what this training proves."""
    if base.certificate is not None:
        trained = base.certificate.all_weights_trained or base.merged
        return dataclasses.replace(base.certificate, weights_after=after, all_weights_trained=trained)
    return Certificate(
        base_tokens=base.first_new_id, new_tokens=base.new_tokens, weights_before=before, weights_after=after
    )


def count_seen(dataset: RowDataset, base: ExtendedBase, epochs: float) -> list[float]:
    """How often training reads each new row, on average over the order of the text."""
    counts = torch.bincount(dataset.ids, minlength=base.first_new_id + base.new_tokens)[base.first_new_id :]
    return [times * epochs for times in counts.tolist()]


@torch.no_grad()
def measure_base(
    model: PreTrainedModel, first_new_id: int, parts: Parts, held_out: HeldOut, accelerator: Accelerator
) -> float | None:
    """Bits per byte of the base on the same windows of text, in its own ids; None where it lacks an id of them."""
    positions = positions_of(model)
    loss_model = BaseLoss(model.eval(), first_new_id)
    nats = 0.0
    for micro_batch in tracked(held_out.micro_batches, "the base on the same text", "micro-batches"):
        in_base = in_base_ids(micro_batch, parts, positions)
        if any(int(ids.max()) >= first_new_id for ids in in_base.values()):
            return None
        with accelerator.autocast():  # as every other figure was measured
            nats += float(loss_model(**{name: ids.to(accelerator.device) for name, ids in in_base.items()}))
    return bits_per_byte(nats, held_out.text_bytes)


def _figure(value: float | None) -> str:
    return "– (it lacks control tokens of this text)" if value is None else f"{value:.4f}"
