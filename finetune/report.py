"""The report of a run: base against assistant, as JSON for programs and as one page for people."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from finetune.evaluation import Scores
from finetune.plots import plot_bits_per_byte, plot_losses
from finetune.samples import SampleReplies
from finetune.score_table import prompt_rows, score_rows

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
table.samples { table-layout: fixed; font-size: .85rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #ddd; }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
img { width: 100%; }
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run shows of itself."""

    title: str
    base: Scores
    """Each figure from the plain-text prompt that suits the base best."""
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
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(report.title)}</h1>",
            f"<p>Both were asked {report.base.conversations} held-out questions.</p>",
            _table(["", "base", "assistant"], score_rows(report.base, report.assistant), numbers=True),
            "<p>The base is asked in three plain-text ways; each figure is from the way that suits it best.</p>",
            _image("Bits per byte of base and assistant", plot_bits_per_byte(report.base, report.assistant)),
            "<h2>Loss</h2>",
            _image("Loss by step", plot_losses(report.metrics)),
            "<h2>Replies</h2>",
            _table(["question", "base", "assistant", "expected"], samples, kind="samples"),
            "<h2>The base by prompt</h2>",
            _table(["prompt", "bits per byte", "exact match", "end by themselves", "repeat"], by_prompt, numbers=True),
            "<h2>Facts of the run</h2>",
            _table(["", ""], list(report.facts.items())),
            "</body></html>\n",
        ]
    )


def _image(name: str, source: str) -> str:
    return f'<p><img alt="{escape(name)}" src="{source}"></p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False, kind: str = "") -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if numbers and place else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    head = f"<thead><tr>{row(header, 'th')}</tr></thead>" if any(header) else ""
    return f'<table class="{kind}">{head}<tbody>{body}</tbody></table>'
