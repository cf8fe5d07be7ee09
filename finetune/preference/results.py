"""What a preference run ends in: the saved model with its card, the report, and both replies in the terminal."""

from collections.abc import Mapping
from pathlib import Path

from finetune.chat.chat_format import ChatFormat
from finetune.evaluation.scoring import Evaluation, best_replies, best_scores
from finetune.evaluation.tables import pair_samples, show_samples
from finetune.export.final_folder import save_assistant
from finetune.export.model_card import BASE_KEPT, Comparison, public_name, write_model_card
from finetune.lora.trainable_model import TrainableModel
from finetune.preference.dataset import PreferenceDataset
from finetune.preference.monitor import chosen_likelier
from finetune.preference.report import PreferenceReport, to_markdown, to_text, write_preference_report
from scratch_models.loop.run_folder import RunFolder

TITLE = "{run}: preferences taught to {base}"


def make_preference_report(
    made_from: str,
    facts: dict[str, str],
    run: RunFolder,
    dataset: PreferenceDataset,
    reference: Mapping[str, Evaluation],
    tuned: Evaluation,
    held_out: dict[str, float],
) -> PreferenceReport:
    """What the run shows of itself; `held_out` are the figures of the held-out pairs after training."""
    rejected = {pair.source: pair.rejected[-1].content for pair in dataset.held_out}
    return PreferenceReport(
        title=TITLE.format(run=run.path.name, base=made_from),
        base=best_scores([one.scores for one in reference.values()]),
        base_by_prompt={name: one.scores for name, one in reference.items()},
        assistant=tuned.scores,
        pairs=len(dataset.held_out),
        held_out=held_out,
        likelier=(chosen_likelier(dataset.held_out_batches.reference), held_out["held_out_chosen_likelier"]),
        samples=pair_samples(best_replies(reference), tuned.answered),
        rejected=tuple(rejected[one.conversation.source] for one in tuned.answered),
        facts=facts,
        metrics=tuple(run.read_metrics()),
    )


def finish_preferences(
    report: PreferenceReport, base: str, trainable: TrainableModel, chat: ChatFormat, run: RunFolder
) -> None:
    """Saves the model, its card and the report, and prints three prompts with both replies and the table."""

    def write_card(folder: Path, kept: str) -> None:
        write_model_card(
            folder,
            title=TITLE.format(run=run.path.name, base=public_name(base)),
            base=base,
            comparison=Comparison(heading="Against its reference", text=to_markdown(report)),
            facts={**report.facts, BASE_KEPT: kept},
        )

    model, adapted, tokenizer = trainable.model, trainable.adapted, trainable.tokenizer
    own_stops = chat.stop_ids if chat.name == "base" else ()
    kept = save_assistant(
        model, adapted, tokenizer, run.final, trainable.extended, own_stops=own_stops, write_card=write_card
    )
    write_preference_report(report, run.path)
    print(show_samples(report.samples), to_text(report), sep="\n\n")
    print(f"\nAfter training, the base: {kept}")
    print(f"Saved: {run.final}; report: {run.path / 'report.html'}")
