"""What continued pretraining ends in: the saved model with its card, the report, and the figures in the terminal."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from finetune.chat.choose_format import named_stops
from finetune.export.final_folder import save_assistant
from finetune.export.model_card import BASE_KEPT, Comparison, public_name, write_model_card
from finetune.lora.trainable_model import TrainableModel
from finetune.pretraining.dataset import PretrainDataset
from finetune.pretraining.monitor import decode, measure_of
from finetune.pretraining.report import (
    Continuation,
    PretrainReport,
    TextFigures,
    to_markdown,
    to_text,
    write_report,
)
from scratch_models.loop.best_checkpoint import MEASURE, saved_evaluation
from scratch_models.loop.run_folder import RunFolder

TITLE = "{run}: {base}, pretrained further"


def make_report(
    made_from: str,
    dataset: PretrainDataset,
    tokenizer: PreTrainedTokenizerFast,
    written: tuple[Sequence[str], Sequence[str]],
    facts: dict[str, str],
    run: RunFolder,
) -> PretrainReport:
    """What the run shows of itself; `written` are the continuations before and after the training."""
    metrics = run.read_metrics()
    start = next(entry for entry in metrics if MEASURE in entry)
    end = saved_evaluation(run)
    shares = dict(zip((one.name for one in dataset.named.learned), dataset.named.shares, strict=True))
    texts = tuple(
        TextFigures(
            name=one.name,
            share=shares.get(one.name),
            held_out_bytes=one.text_bytes,
            bits_per_byte_before=start[measure_of(MEASURE, one.name)],
            bits_per_byte_after=end[measure_of(MEASURE, one.name)],
        )
        for one in dataset.watched
    )
    samples = tuple(
        Continuation(
            text=sample.text,
            prompt=decode(tokenizer, sample.prompt),
            before=before,
            after=after,
            expected=decode(tokenizer, sample.expected),
        )
        for sample, before, after in zip(dataset.samples, *written, strict=True)
    )
    title = TITLE.format(run=run.path.name, base=made_from)
    return PretrainReport(title=title, texts=texts, samples=samples, facts=facts, metrics=tuple(metrics))


def finish(
    report: PretrainReport, base: str, trainable: TrainableModel, dataset: PretrainDataset, run: RunFolder
) -> None:
    """Saves the model with its card and the report, and prints the figures."""
    public = tuple(replace(one, name=public_name(one.name)) for one in report.texts)
    facts = report.facts
    for one in report.texts:  # a card names no folder of this machine
        facts = {name: said.replace(one.name, public_name(one.name)) for name, said in facts.items()}

    def write_card(folder: Path, kept: str) -> None:
        write_model_card(
            folder,
            title=TITLE.format(run=run.path.name, base=public_name(base)),
            base=base,
            comparison=Comparison(heading="Held-out text", text=to_markdown(public)),
            facts={**facts, BASE_KEPT: kept},
            conversational=False,
        )

    model = trainable.model
    stops = named_stops(model.generation_config) or [dataset.ends.end_id]
    kept = save_assistant(
        model,
        trainable.adapted,
        trainable.tokenizer,
        run.final,
        trainable.extended,
        own_stops=stops,
        write_card=write_card,
    )
    write_report(report, run.path)
    print(to_text(report.texts))
    print(f"\nAfter training, the base: {kept}\nSaved: {run.final}; report: {run.path / 'report.html'}")
