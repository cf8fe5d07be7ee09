"""The report of a run: base against assistant, as JSON for programs and as one page for people."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.evaluation import Scores
from finetune.plots import plot_bits_per_byte, plot_losses, plot_stop_rate
from finetune.samples import SampleReplies
from finetune.score_table import prompt_rows, score_rows
from tokenizer_ext.pages.html_page import heading, image, page, paragraph, table


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run shows of itself."""

    title: str
    base: Scores
    """Each figure from the way of asking that suits the base best."""
    base_by_prompt: dict[str, Scores]
    assistant: Scores
    samples: tuple[SampleReplies, ...]
    facts: dict[str, str]
    """What was read, trained and left out."""
    metrics: tuple[dict[str, Any], ...]
    """The lines of `metrics.jsonl`."""


def write_report(report: Report, folder: Path) -> None:
    """Writes `report.json`, without the metrics that stand in `metrics.jsonl`, and `report.html`."""
    record = {name: value for name, value in dataclasses.asdict(report).items() if name != "metrics"}
    (folder / "report.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(to_html(report), encoding="utf-8")


def to_html(report: Report) -> str:
    """One page that needs nothing beside it: its plots are inside."""
    samples = [(one.question, one.base, one.assistant, one.expected) for one in report.samples]
    by_prompt = prompt_rows(report.base_by_prompt)
    asked = any("stop_rate" in entry for entry in report.metrics)
    return page(
        report.title,
        [
            paragraph(f"Both were asked {report.base.conversations} held-out questions."),
            table(["", "base", "assistant"], score_rows(report.base, report.assistant), numbers=True),
            paragraph("The base is asked in every way listed below; each figure is from the way that suits it best."),
            image("Bits per byte of base and assistant", plot_bits_per_byte(report.base, report.assistant)),
            heading("While it trained"),
            image("Loss by step", plot_losses(report.metrics)),
            *([image("Stop rate by step", plot_stop_rate(report.metrics))] if asked else []),
            heading("Replies"),
            table(["question", "base", "assistant", "expected"], samples, kind="samples"),
            heading("The base by prompt"),
            table(["prompt", "bits per byte", "exact match", "end by themselves", "repeat"], by_prompt, numbers=True),
            heading("Facts of the run"),
            table(["", ""], list(report.facts.items())),
        ],
    )
