"""What a fine-tuning run ends in: the saved assistant with its card, the report, and both answers in the terminal."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from finetune.engine import Engine
from finetune.evaluation import Answered, Interview, best_scores
from finetune.export import save_assistant
from finetune.hub import push
from finetune.model_card import write_model_card
from finetune.receipt import RECEIPT, merge_with_receipt
from finetune.report import Report, write_report
from finetune.samples import pair_samples, show_samples
from finetune.score_table import to_text
from finetune.subject import Subject
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.extension.certificate import CERTIFICATE, read_certificate
from tokenizer_ext.extension.report import verdict, weights_line

MERGED = "merged"


def in_favour(base: Mapping[str, Interview]) -> list[Answered]:
    """The base's replies in the way with the fewest bits per byte."""
    return min(base.values(), key=lambda one: one.scores.bits_per_byte).answered if base else []


def make_report(
    title: str, facts: dict[str, str], run: RunFolder, base: Mapping[str, Interview], assistant: Interview
) -> Report:
    """What the run shows of itself."""
    return Report(
        title=title,
        base=best_scores([one.scores for one in base.values()]),
        base_by_prompt={name: one.scores for name, one in base.items()},
        assistant=assistant.scores,
        samples=pair_samples(in_favour(base), assistant.answered),
        facts=facts,
        metrics=tuple(run.read_metrics()),
    )


def finish(report: Report, base: str, subject: Subject, run: RunFolder) -> None:
    """Saves the assistant and the report, and prints three questions with both answers and the table."""
    save_assistant(subject.model, subject.adapted, subject.tokenizer, run.final, subject.extended)
    write_model_card(report, base, run.final)
    write_report(report, run.path)
    print(show_samples(report.samples), to_text(report.base, report.assistant), sep="\n\n")
    print(f"\n{describe_training(run.final)}")
    print(f"Saved: {run.final}; report: {run.path / 'report.html'}\nAsk both yourself: make app")


def hand_over(run: RunFolder, *, merge: bool, push_to_hub: str | None) -> None:
    """Merges the finished run into one model, proven after it is read back, and uploads it, where that is wanted."""
    model = run.final
    if merge:
        model = run.path / MERGED
        shutil.rmtree(model, ignore_errors=True)  # of a run that was finished before and resumed
        receipt = merge_with_receipt(run.final, model)
        print(f"{receipt.describe()}\nSaved: {model}; receipt: {model / RECEIPT}")
    if push_to_hub is not None:
        print(f"Uploaded: {push(model, push_to_hub)}")


def describe_engine(engine: Engine) -> str:
    """How the model was computed, in one line."""
    probe, measured = engine.probe, ""
    if probe is not None:
        bf16 = "none" if probe.bf16_gflops is None else f"{probe.bf16_gflops:,.0f}"
        measured = f", chosen by measuring: fp32 {probe.fp32_gflops:,.0f} GFLOP/s, bf16 {bf16}"
    return f"computes in {engine.precision}{measured}"


def describe_training(final: Path) -> str:
    """What the certificate that was saved says of the old weights after training."""
    folder = final / "base" if (final / "base").is_dir() else final
    certificate = read_certificate(folder)
    assert certificate is not None
    return f"After training: {weights_line(certificate)}; {verdict(certificate)} ({folder / CERTIFICATE})"
