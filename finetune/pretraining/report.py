"""The report of continued pretraining: each text before and after, as JSON for programs and as a page for people."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.whole_folder import write_whole
from finetune.pretraining.monitor import LOSS, measure_of
from scratch_models.loop.best_checkpoint import MEASURE
from tokenizer_ext.pages.html_page import heading, image, page, paragraph, table
from tokenizer_ext.pages.plots import as_data_uri, new_figure
from tokenizer_ext.pages.progress import shown

REPORT = "report.json"
COLUMNS = ["held-out bits per byte (lower is better)", "before", "after", "change"]
CONTINUED = "The start of held-out documents, and how each model goes on with the likeliest token every time."


@dataclass(frozen=True, kw_only=True)
class TextFigures:
    """What is known of a text before and after the training."""

    name: str
    share: float | None
    """Of the tokens that were read; None for a text that was only watched."""
    held_out_bytes: int
    bits_per_byte_before: float
    bits_per_byte_after: float

    @property
    def change(self) -> float:
        """By which share the bits per byte are more or fewer."""
        return self.bits_per_byte_after / self.bits_per_byte_before - 1


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A held-out text continued by both."""

    text: str
    prompt: str
    before: str
    after: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class PretrainReport:
    """What a run shows of itself."""

    title: str
    texts: tuple[TextFigures, ...]
    samples: tuple[Continuation, ...]
    facts: dict[str, str]
    metrics: tuple[dict[str, Any], ...] = ()
    """The lines of `metrics.jsonl`."""


def figure_rows(texts: Sequence[TextFigures]) -> list[tuple[str, str, str, str]]:
    """A row for each text, in the order of `COLUMNS`."""
    return [
        (
            f"{one.name}, {'not learned' if one.share is None else f'{one.share:.0%} of the tokens'}",
            f"{one.bits_per_byte_before:.4f}",
            f"{one.bits_per_byte_after:.4f}",
            f"{one.change:+.2%}",
        )
        for one in texts
    ]


def to_text(texts: Sequence[TextFigures]) -> str:
    """The table for the terminal."""
    rows = [tuple(COLUMNS), *figure_rows(texts)]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {'  '.join(f'{cell:>8}' for cell in cells)}" for name, *cells in rows)


def to_markdown(texts: Sequence[TextFigures]) -> str:
    """The table for the model card."""
    rows = [COLUMNS, ["---", "---:", "---:", "---:"], *figure_rows(texts)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


@shown("drawing the report")
def write_report(report: PretrainReport, folder: Path) -> None:
    """Writes `report.json`, without the metrics that stand in `metrics.jsonl`, and `report.html`."""
    record = {name: value for name, value in dataclasses.asdict(report).items() if name != "metrics"}
    write_whole(folder / REPORT, json.dumps(record, indent=2) + "\n")
    write_whole(folder / "report.html", to_html(report))


def to_html(report: PretrainReport) -> str:
    """One page that needs nothing beside it: its plots are inside."""
    names = [one.name for one in report.texts]
    samples = [(one.text, one.prompt, one.before, one.after, one.expected) for one in report.samples]
    return page(
        report.title,
        [
            table(COLUMNS, figure_rows(report.texts), numbers=True),
            heading("While it trained"),
            image("Held-out bits per byte by step", plot_texts(report.metrics, names)),
            image("Loss by step", plot_losses(report.metrics)),
            heading("Continuations"),
            paragraph(CONTINUED),
            table(["text", "start", "before", "after", "the document"], samples, kind="samples", folded=True),
            heading("Facts of the run"),
            table(["", ""], list(report.facts.items())),
        ],
    )


def plot_texts(metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The bits per byte of each text by step, over those before the first, as a data URI."""
    lines = {name: _series(metrics, measure_of(MEASURE, name)) for name in names}
    relative = {
        name: (steps, [value / values[0] for value in values]) for name, (steps, values) in lines.items() if values
    }
    return _plot(relative, "times those before", "Held-out bits per byte", marker="o")


def plot_losses(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Training loss by step, and that of the held-out text which decides, as a data URI."""
    lines = {"training": _series(metrics, "loss_nats"), "held-out": _series(metrics, LOSS)}
    return _plot(lines, "nats per token", "Loss")


def _plot(lines: Mapping[str, tuple[list[int], list[float]]], unit: str, title: str, marker: str = "") -> str:
    figure = new_figure(height=3.2)
    axes = figure.subplots()
    for label, (steps, values) in lines.items():
        axes.plot(steps, values, marker=marker or ("o" if label == "held-out" else ""), label=label)
    axes.set(xlabel="step", ylabel=unit, title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return as_data_uri(figure)


def _series(metrics: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(entry["step"], entry[name]) for entry in metrics if name in entry]
    return [step for step, _ in points], [value for _, value in points]
