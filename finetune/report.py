"""The report of a run: base against assistant, as JSON, as a page with plots, as a table for the terminal, as a model card."""

import base64
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from configs import InputError
from finetune.evaluation import Scores

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #ddd; }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
"""


@dataclass(frozen=True)
class SampleReplies:
    """One question with the replies of both models."""

    question: str
    base: str
    assistant: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run shows of itself."""

    title: str
    base: Scores
    """At the best of the three plain-text prompts."""
    base_by_prompt: dict[str, Scores]
    assistant: Scores
    samples: tuple[SampleReplies, ...]
    facts: dict[str, Any]
    """What was read, trained and left out."""
    metrics: tuple[dict[str, Any], ...]
    """The lines of `metrics.jsonl`."""


def write_report(report: Report, folder: Path) -> None:
    """Writes `report.json` and `report.html`."""
    record = {
        field.name: getattr(report, field.name) for field in dataclasses.fields(report) if field.name != "metrics"
    }
    (folder / "report.json").write_text(
        json.dumps(record, indent=2, default=dataclasses.asdict) + "\n", encoding="utf-8"
    )
    (folder / "report.html").write_text(to_html(report), encoding="utf-8")


def score_rows(base: Scores, assistant: Scores) -> list[tuple[str, str, str]]:
    """The table: name, base, assistant."""
    rows = [
        (
            "bits per byte of the known reply (lower is better)",
            f"{base.bits_per_byte:.3f}",
            f"{assistant.bits_per_byte:.3f}",
        )
    ]
    if base.checkable:
        name = f"exact match on {base.checkable} checkable questions"
        rows.append((name, f"{base.exact_match:.1%}", f"{assistant.exact_match:.1%}"))
    rows.append(("replies that end by themselves", f"{base.stop_rate:.1%}", f"{assistant.stop_rate:.1%}"))
    rows.append(
        (
            "replies that repeat four words three times",
            f"{base.repetition_rate:.1%}",
            f"{assistant.repetition_rate:.1%}",
        )
    )
    return rows


def to_text(base: Scores, assistant: Scores) -> str:
    """The table for the terminal."""
    rows = [(f"on {base.conversations} held-out questions", "base", "assistant"), *score_rows(base, assistant)]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:<{width}}  {left:>9}  {right:>9}" for name, left, right in rows)


def to_markdown(base: Scores, assistant: Scores) -> str:
    """The table for the model card."""
    rows = "\n".join(f"| {name} | {left} | {right} |" for name, left, right in score_rows(base, assistant))
    return f"| {base.conversations} held-out questions | base | assistant |\n|---|---:|---:|\n{rows}\n"


def to_html(report: Report) -> str:
    """One page that needs nothing beside it."""
    images = "".join(f'<p><img alt="{escape(name)}" src="{source}"></p>' for name, source in _plots(report).items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(report.title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(report.title)}</h1>"
        f"{_table(['', 'base', 'assistant'], score_rows(report.base, report.assistant), numbers=True)}"
        f"<p>The base is asked in three plain-text ways; each of its figures is from the way that suits it best.</p>"
        f"<h2>Loss</h2>{images}"
        f"<h2>Replies</h2>{_table(['question', 'base', 'assistant', 'expected'], [_sample_cells(s) for s in report.samples])}"
        f"<h2>The base by prompt</h2>{_by_prompt(report.base_by_prompt)}"
        f"<h2>Facts of the run</h2>{_table(['', ''], [(name, str(value)) for name, value in report.facts.items()])}"
        "</html>\n"
    )


def require_plots() -> None:
    """Checks, before anything is trained, that the report can be drawn.

    Raises:
        InputError: matplotlib is missing.

    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as missing:
        raise InputError("the report's plots need matplotlib: pip install 'graft-lm[report]'") from missing


def _plots(report: Report) -> dict[str, str]:
    from matplotlib.figure import Figure

    losses = Figure(figsize=(8, 3.5), layout="constrained")
    axes = losses.subplots()
    axes.plot(*_series(report.metrics, "loss_nats"), linewidth=0.8, alpha=0.6, label="training")
    axes.plot(*_series(report.metrics, "held_out_loss_nats"), marker="o", label="held-out")
    axes.set(xlabel="step", ylabel="nats per supervised token", title="Loss of the replies")
    axes.legend()
    bars = Figure(figsize=(8, 2), layout="constrained")
    axes = bars.subplots()
    drawn = axes.barh(
        ["assistant", "base"], [report.assistant.bits_per_byte, report.base.bits_per_byte], color=["C0", "0.6"]
    )
    axes.bar_label(drawn, fmt="%.3f", padding=3)
    axes.margins(x=0.12)
    axes.set(xlabel="bits per byte of the known replies (lower is better)")
    return {"Loss by step": _as_svg(losses), "Bits per byte of base and assistant": _as_svg(bars)}


def _series(metrics: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(entry["step"], entry[name]) for entry in metrics if name in entry]
    return [step for step, _ in points], [value for _, value in points]


def _as_svg(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    kinds = ["" if place == 0 or not numbers else ' class="number"' for place in range(len(header))]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sample_cells(sample: SampleReplies) -> tuple[str, str, str, str]:
    return sample.question, sample.base, sample.assistant, sample.expected


def _by_prompt(scores: Mapping[str, Scores]) -> str:
    header = ["prompt", "bits per byte", "exact match", "ends by itself", "repeats"]
    rows = [
        (name, f"{s.bits_per_byte:.3f}", f"{s.exact_match:.1%}", f"{s.stop_rate:.1%}", f"{s.repetition_rate:.1%}")
        for name, s in scores.items()
    ]
    return _table(header, rows, numbers=True)
