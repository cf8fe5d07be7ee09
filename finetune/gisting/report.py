"""The report of gist tokens: what is left of what the prompt changes, replies side by side, what is saved."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.whole_folder import write_whole
from finetune.gisting.figures import GistFigures, Sample
from finetune.gisting.monitor import KL_SHARE
from tokenizer_ext.pages.html_page import heading, image, page, paragraph, table
from tokenizer_ext.pages.plots import as_data_uri, new_figure
from tokenizer_ext.pages.progress import shown

REPORT = "report.json"
SIDES = "The base's own greedy replies behind the whole prompt, and those of the same weights behind the gist tokens."


@dataclasses.dataclass(frozen=True, kw_only=True)
class GistReport:
    """What a run shows of itself."""

    title: str
    prompt: str
    figures: GistFigures
    samples: list[Sample]
    facts: dict[str, str]
    metrics: tuple[dict[str, Any], ...] = ()
    """The lines of `metrics.jsonl`."""


def columns(figures: GistFigures) -> list[str]:
    """The head of the table."""
    return [f"on {figures.questions} held-out questions", "gist tokens", "no prompt"]


def figure_rows(figures: GistFigures) -> list[tuple[str, str, str]]:
    """The rows of the table: the base's replies behind the prompt are what both are held to."""
    gist, nothing, tokens = figures.gist, figures.nothing, figures.reply_tokens
    interval = figures.share_left_interval
    return [
        (
            "KL to the replies behind the prompt, nats per token",
            f"{gist.kl_nats_per_token:.4f}",
            f"{nothing.kl_nats_per_token:.4f}",
        ),
        ("share of it that is left", f"{figures.share_left:.1%} ({interval.low:.1%} to {interval.high:.1%})", "100%"),
        ("same first choice, token by token", f"{gist.same_choice:.1%}", f"{nothing.same_choice:.1%}"),
        (
            f"greedy tokens before the first other one, of {tokens:,}",
            f"{gist.agreeing_tokens:,}",
            f"{nothing.agreeing_tokens:,}",
        ),
        ("greedy replies that are the same", f"{gist.equal_replies}", f"{nothing.equal_replies}"),
    ]


def savings(figures: GistFigures) -> str:
    """What a request is spared, in a sentence or two."""
    (tokens, fewer), (seconds, less) = figures.request_tokens, figures.request_seconds
    return (
        f"The prompt has {figures.prompt_tokens:,} tokens, its gist {figures.gist_tokens:,}: a typical request is "
        f"{fewer:,} tokens in place of {tokens:,}, {tokens - fewer:,} fewer, and its first token comes after "
        f"{less:.3f} seconds in place of {seconds:.3f}, where no server keeps the prompt's keys and values. The gist "
        f"tokens were said {figures.gist_tokens_said} times in these replies, where nothing keeps them out, and had at "
        f"most {figures.largest_gist_share:.2g} of the probability of a place."
    )


def to_text(figures: GistFigures) -> str:
    """The table for the terminal."""
    rows = [tuple(columns(figures)), *figure_rows(figures)]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in rows]
    return "\n".join([*lines, savings(figures)])


def to_markdown(figures: GistFigures) -> str:
    """The table for the model card."""
    rows = [columns(figures), ["---", "---:", "---:"], *figure_rows(figures)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + f"\n{savings(figures)}\n"


@shown("drawing the report")
def write_report(report: GistReport, folder: Path) -> None:
    """Writes `report.json`, without the metrics that stand in `metrics.jsonl`, and `report.html`."""
    record = {name: value for name, value in dataclasses.asdict(report).items() if name != "metrics"}
    write_whole(folder / REPORT, json.dumps(record, indent=2) + "\n")
    write_whole(folder / "report.html", to_html(report))


def to_html(report: GistReport) -> str:
    """One page that needs nothing beside it: its plots are inside."""
    samples = [(one.question, one.after_prompt, one.after_gist, one.after_nothing) for one in report.samples]
    return page(
        report.title,
        [
            table(columns(report.figures), figure_rows(report.figures), numbers=True),
            paragraph(savings(report.figures)),
            heading("While it trained"),
            image("Share of the KL without a prompt that is left, by step", plot_share(report.metrics)),
            heading("Replies"),
            paragraph(SIDES),
            table(
                ["question", "behind the prompt", "behind the gist tokens", "behind nothing"],
                samples,
                kind="samples",
                folded=True,
            ),
            heading("The prompt"),
            paragraph(report.prompt),
            heading("Facts of the run"),
            table(["", ""], list(report.facts.items())),
        ],
    )


def plot_share(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The share that is left, by step, as a data URI."""
    points = [(entry["step"], entry[KL_SHARE]) for entry in metrics if KL_SHARE in entry]
    figure = new_figure(height=3.2)
    axes = figure.subplots()
    axes.plot([step for step, _ in points], [share for _, share in points], marker="o", label="held-out")
    axes.set(xlabel="step", ylabel="share of KL", title="Held-out KL over that without a prompt", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return as_data_uri(figure)
