"""The report of a run: base against assistant, as JSON for programs and as one page for people."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerFast

from configs.whole_folder import write_whole
from finetune.chat.choose_format import has_own_template, knows_chat
from finetune.engine.engine import Engine
from finetune.evaluation.scoring import Scores
from finetune.evaluation.tables import PROMPT_COLUMNS, SampleReplies, prompt_rows, score_rows
from finetune.lora.trainable_model import TrainableModel
from scratch_models.loop.best_checkpoint import describe_steps
from scratch_models.loop.run_folder import RECORD, RunFolder
from tokenizer_ext.pages.html_page import heading, image, page, paragraph, table
from tokenizer_ext.pages.json_records import read_record
from tokenizer_ext.pages.plots import as_data_uri, new_figure
from tokenizer_ext.pages.progress import shown

REPORT = "report.json"


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
    metrics: tuple[dict[str, Any], ...] = ()
    """The lines of `metrics.jsonl`."""


R = TypeVar("R", bound=Report)


def read_report(run: RunFolder, kind: type[R]) -> R:
    """The report that a run wrote to `report.json`, with its metrics.

    Raises:
        InputError: there is none, or it is not what a run wrote.

    """
    report = read_record(kind, run.path / REPORT, "what a run wrote there")
    return dataclasses.replace(report, metrics=tuple(run.read_metrics()))


def describe_run(
    aims: Mapping[str, str], trainable: TrainableModel, read: Mapping[str, str], engine: Engine, run: RunFolder
) -> dict[str, str]:
    """The facts of a finished run: what it was to do, what trained, what was read, how long and how it computed."""
    parameters, trained = trainable.count_parameters()
    return {
        **aims,
        "base is": describe_base(trainable.extended.plan.base),
        "parameters": f"{parameters:,}, of which {trained:,} were trained",
        **read,
        "steps": describe_steps(run),
        "computed": engine.describe(),
        "full settings, versions and hashes": RECORD,
    }


def describe_base(tokenizer: PreTrainedTokenizerFast) -> str:
    """Whether a base was taught to chat already, which its chat template says."""
    if has_own_template(tokenizer):
        return "an instruct model, with a chat template of its own"
    return "an assistant in the project's chat format" if knows_chat(tokenizer) else "a base model, not taught to chat"


@shown("drawing the report")
def write_report(report: Report, folder: Path) -> None:
    """Writes `report.json`, without the metrics that stand in `metrics.jsonl`, and `report.html`."""
    record = {name: value for name, value in dataclasses.asdict(report).items() if name != "metrics"}
    write_whole(folder / REPORT, json.dumps(record, indent=2) + "\n")
    write_whole(folder / "report.html", to_html(report))


def to_html(report: Report) -> str:
    """One page that needs nothing beside it: its plots are inside."""
    differing = sorted(report.samples, key=lambda one: likeness(one.base, one.assistant))
    samples = [(one.question, one.base, one.assistant, one.expected) for one in differing]
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
            heading("Replies, those that differ most first"),
            table(["question", "base", "assistant", "expected"], samples, kind="samples", folded=True),
            heading("The base by prompt"),
            table(PROMPT_COLUMNS, by_prompt, numbers=True),
            heading("Facts of the run"),
            table(["", ""], list(report.facts.items())),
        ],
    )


def likeness(one: str, other: str) -> float:
    """How alike two replies are, from 0 to 1: the share of words that stand in both in the same order.

    >>> likeness("the sum of two", "the sum of all"), likeness("a b", "c")
    (0.75, 0.0)
    """
    return SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


def plot_losses(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Training and held-out loss by step, from the lines of `metrics.jsonl`, as a data URI."""
    figure = new_figure(height=3.5)
    axes = figure.subplots()
    axes.plot(*_series(metrics, "loss_nats"), linewidth=0.8, alpha=0.6, label="training")
    axes.plot(*_series(metrics, "held_out_loss_nats"), marker="o", label="held-out")
    axes.set(xlabel="step", ylabel="nats per supervised token", title="Loss of the replies")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return as_data_uri(figure)


def plot_stop_rate(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The share of watched questions whose reply the model ended itself, by step, as a data URI."""
    figure = new_figure(height=2.0)
    axes = figure.subplots()
    axes.plot(*_series(metrics, "stop_rate"), marker="o", color="C2")
    axes.set(xlabel="step", ylabel="share", ylim=(-0.05, 1.05), title="Replies that end by themselves")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_data_uri(figure)


def plot_bits_per_byte(base: Scores, assistant: Scores) -> str:
    """Bits per byte of both as bars, as a data URI."""
    figure = new_figure(height=1.6)
    axes = figure.subplots()
    bars = axes.barh(["assistant", "base"], [assistant.bits_per_byte, base.bits_per_byte], color=["C0", "0.6"])
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.margins(x=0.12)
    axes.set(xlabel="bits per byte of the known replies (lower is better)")
    return as_data_uri(figure)


def _series(metrics: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(entry["step"], entry[name]) for entry in metrics if name in entry]
    return [step for step, _ in points], [value for _, value in points]
