"""What a fine-tuning run ends in: the saved assistant with its card, the report, and both answers in the terminal."""

from collections.abc import Mapping
from pathlib import Path

from finetune.chat.chat_format import ChatFormat
from finetune.evaluation.report import Report, write_report
from finetune.evaluation.scoring import Evaluation, best_replies, best_scores
from finetune.evaluation.tables import pair_samples, show_samples, to_markdown, to_text
from finetune.export.final_folder import save_assistant
from finetune.export.model_card import BASE_KEPT, Comparison, public_name, write_model_card
from finetune.lora.trainable_model import TrainableModel
from scratch_models.loop.run_folder import RUNS, RunFolder
from tokenizer_ext.extension.certificate import CERTIFICATE, read_certificate
from tokenizer_ext.extension.report import verdict, weights_line

TITLE = "{run}: an assistant made from {base}"
PROMPTED = (
    "A base that has a chat format is asked in it; another one in three plain-text prompt formats, and each of its "
    "figures is\nfrom the one that suits it best."
)


def make_report(
    made_from: str, facts: dict[str, str], run: RunFolder, base: Mapping[str, Evaluation], assistant: Evaluation
) -> Report:
    """What the run shows of itself."""
    return Report(
        title=TITLE.format(run=run.path.name, base=made_from),
        base=best_scores([one.scores for one in base.values()]),
        base_by_prompt={name: one.scores for name, one in base.items()},
        assistant=assistant.scores,
        samples=pair_samples(best_replies(base), assistant.answered),
        facts=facts,
        metrics=tuple(run.read_metrics()),
    )


def finish(report: Report, base: str, trainable: TrainableModel, chat: ChatFormat, run: RunFolder) -> None:
    """Saves the assistant with its card and the report, and prints three questions with both answers and the table."""

    def write_card(folder: Path, kept: str) -> None:
        table = f"{to_markdown(report.base, report.assistant)}\n{PROMPTED}\n"
        write_model_card(
            folder,
            title=TITLE.format(run=run.path.name, base=public_name(base)),
            base=base,
            comparison=Comparison(heading="Against its base", text=table),
            facts={**report.facts, BASE_KEPT: kept},
        )

    model, adapted, tokenizer = trainable.model, trainable.adapted, trainable.tokenizer
    own_stops = chat.stop_ids if chat.name == "base" else ()
    kept = save_assistant(
        model, adapted, tokenizer, run.final, trainable.extended, own_stops=own_stops, write_card=write_card
    )
    write_report(report, run.path)
    print(show_samples(report.samples), to_text(report.base, report.assistant), sep="\n\n")
    print(f"\nAfter training, the base: {kept}{describe_proof(run.final)}")
    print(f"Saved: {run.final}; report: {run.path / 'report.html'}\nAsk both yourself: {opens_both(run.path)}")


def opens_both(run: Path) -> str:
    """The command that opens base and assistant in the browser; of these runs the studio finds `runs/sft*` itself.

    >>> opens_both(Path("runs/sft-1")), opens_both(Path("runs/prose"))
    ('make app', 'python -m apps.studio --tuned runs/prose')
    """
    found = run.parent == RUNS and run.name.startswith("sft")
    return "make app" if found else f"python -m apps.studio --tuned {run}"


def describe_proof(final: Path) -> str:
    """What the certificate of a saved model says of the old weights after training; nothing where none is needed."""
    folder = final / "base" if (final / "base").is_dir() else final
    certificate = read_certificate(folder)
    if certificate is None:
        return ""
    return f"\n{weights_line(certificate)}; {verdict(certificate)} ({folder / CERTIFICATE})"
