"""The report of a preference run: the reference against what it was tuned into, and how the rewards came apart."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.whole_folder import write_whole
from finetune.evaluation.report import Report
from finetune.evaluation.tables import score_rows
from tokenizer_ext.pages.html_page import heading, image, page, paragraph, table
from tokenizer_ext.pages.plots import as_data_uri, new_figure

PROMPTED = (
    "Both were asked {number} held-out prompts. The reference was asked {prompt_formats}; "
    "each of its figures is the best."
)
REWARDS = (
    "A reward is beta times how many nats likelier a reply has become than the reference finds it. The accuracy is the "
    "share of held-out pairs whose chosen reply has the higher reward."
)


@dataclass(frozen=True, kw_only=True)
class PreferenceReport(Report):
    """What a preference run shows of itself; its base is the reference."""

    pairs: int
    """Held-out pairs whose rewards were read; of their prompts some were answered."""
    held_out: dict[str, float]
    """Loss and rewards of the held-out pairs after training."""
    likelier: tuple[float, float]
    """Share of held-out pairs whose chosen reply is the likelier one: to the reference, and after tuning."""
    rejected: tuple[str, ...]
    """The rejected reply of each sample."""


def rows_of(report: PreferenceReport) -> list[tuple[str, str, str]]:
    """The table of the reference against the tuned model."""
    rewards = report.held_out
    before, after = (format(share, ".1%") for share in report.likelier)
    return [
        (f"of {report.pairs} pairs, those whose chosen reply is the likelier one", before, after),
        ("reward accuracy", "–", f"{rewards['held_out_reward_accuracy']:.1%}"),
        ("reward margin", "0", f"{rewards['held_out_reward_margin']:.3f}"),
        ("reward of the chosen reply", "0", f"{rewards['held_out_chosen_reward']:.3f}"),
        ("reward of the rejected reply", "0", f"{rewards['held_out_rejected_reward']:.3f}"),
        *score_rows(report.base, report.assistant),
    ]


def to_text(report: PreferenceReport) -> str:
    """The table for the terminal."""
    rows = [(_asked(report), "reference", "tuned"), *rows_of(report)]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:<{width}}  {left:>9}  {right:>9}" for name, left, right in rows)


def to_markdown(report: PreferenceReport) -> str:
    """The table for the model card."""
    rows = "\n".join(f"| {name} | {left} | {right} |" for name, left, right in rows_of(report))
    return f"| {_asked(report)} | reference | tuned |\n|---|---:|---:|\n{rows}\n"


def _asked(report: PreferenceReport) -> str:
    return f"held-out pairs, {report.base.conversations} of them answered"


def write_preference_report(report: PreferenceReport, folder: Path) -> None:
    """Writes `report.json`, without the metrics that stand in `metrics.jsonl`, and `report.html`."""
    record = {name: value for name, value in dataclasses.asdict(report).items() if name != "metrics"}
    write_whole(folder / "report.json", json.dumps(record, indent=2) + "\n")
    write_whole(folder / "report.html", to_html(report))


def to_html(report: PreferenceReport) -> str:
    """One page that needs nothing beside it: its plots are inside."""
    samples = [
        (one.question, one.base, one.assistant, one.expected, rejected)
        for one, rejected in zip(report.samples, report.rejected, strict=True)
    ]
    prompt_formats = " and ".join(f"in the way “{name}”" for name in report.base_by_prompt)
    return page(
        report.title,
        [
            paragraph(PROMPTED.format(number=report.base.conversations, prompt_formats=prompt_formats)),
            table(["", "reference", "tuned"], rows_of(report), numbers=True),
            paragraph(REWARDS),
            heading("While it trained"),
            image("Loss by step", plot_metrics(report.metrics, LOSSES, "loss of a pair")),
            image("Rewards by step", plot_metrics(report.metrics, REWARD_LINES, "reward (nats times beta)")),
            heading("Replies"),
            table(["prompt", "reference", "tuned", "chosen", "rejected"], samples, kind="samples", folded=True),
            heading("Facts of the run"),
            table(["", ""], list(report.facts.items())),
        ],
    )


LOSSES = {"training": "loss_nats", "held-out": "held_out_loss_nats"}
REWARD_LINES = {
    "chosen": "held_out_chosen_reward",
    "rejected": "held_out_rejected_reward",
    "margin": "held_out_reward_margin",
}


def plot_metrics(metrics: Sequence[Mapping[str, Any]], lines: Mapping[str, str], unit: str) -> str:
    """Some figures of `metrics.jsonl` by step, as a data URI."""
    figure = new_figure(height=3.0)
    axes = figure.subplots()
    for label, name in lines.items():
        points = [(entry["step"], entry[name]) for entry in metrics if name in entry]
        marker = "o" if name.startswith("held_out") else ""
        axes.plot([step for step, _ in points], [value for _, value in points], marker=marker, label=label)
    axes.set(xlabel="step", ylabel=unit)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return as_data_uri(figure)
