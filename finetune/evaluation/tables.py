"""The table of base against assistant: one row a figure, for the terminal, the model card and the report."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from finetune.evaluation.scoring import Answered, Scores
from scratch_models.corpus.evenly_spaced import evenly_spaced
from tokenizer_ext.pages.shortened import shorten
from tokenizer_ext.pages.terminal import printable

CONTAINED = "of them, replies that contain the answer as a word"
"""The figure beside exact match, which is fair to a model that answers in sentences."""
Row = tuple[str, str, str]
"""Name, base, assistant."""


def score_rows(base: Scores, assistant: Scores) -> list[Row]:
    """The figures of both, written out; those of answers only where something can be checked."""
    figures = {
        "bits per byte of the known reply (lower is better)": ("bits_per_byte", ".3f"),
        f"exact match on {base.checkable} checkable questions": ("exact_match", ".1%"),
        CONTAINED: ("answer_contained", ".1%"),
        "replies that end by themselves": ("stop_rate", ".1%"),
        "replies that repeat four words three times": ("repetition_rate", ".1%"),
    }
    return [
        (name, _written(getattr(base, field), form), _written(getattr(assistant, field), form))
        for name, (field, form) in figures.items()
        if base.checkable or field not in ("exact_match", "answer_contained")
    ] + calculation_rows(base, assistant)


def _written(figure: float | None, form: str) -> str:
    return "–" if figure is None else format(figure, form)


def calculation_rows(base: Scores, assistant: Scores) -> list[Row]:
    """How much of the arithmetic inside << >> is right, where there is any."""
    if not base.calculations and not assistant.calculations:
        return []
    left, right = (f"{one.calculations_right} of {one.calculations}" for one in (base, assistant))
    return [("results inside << >> that are right", left, right)]


def to_text(base: Scores, assistant: Scores) -> str:
    """The table for the terminal."""
    rows = [(f"on {base.conversations} questions", "base", "assistant"), *score_rows(base, assistant)]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:<{width}}  {left:>9}  {right:>9}" for name, left, right in rows)


def to_markdown(base: Scores, assistant: Scores) -> str:
    """The table for the model card."""
    rows = "\n".join(f"| {name} | {left} | {right} |" for name, left, right in score_rows(base, assistant))
    return f"| {base.conversations} held-out questions | base | assistant |\n|---|---:|---:|\n{rows}\n"


PROMPT_COLUMNS = ["prompt", "bits per byte", "exact match", "contain the answer", "end by themselves", "repeat"]


def prompt_rows(by_prompt: Mapping[str, Scores]) -> list[tuple[str, ...]]:
    """The figures of a base in each prompt format, in the order of `PROMPT_COLUMNS`."""
    return [
        (
            name,
            _written(one.bits_per_byte, ".3f"),
            *((f"{share:.1%}" if one.checkable else "–") for share in (one.exact_match, one.answer_contained)),
            f"{one.stop_rate:.1%}",
            f"{one.repetition_rate:.1%}",
        )
        for name, one in by_prompt.items()
    ]


PRINTED_SAMPLES = 3
LONGEST_PRINTED_CHARACTERS = 600
LONGEST_LINE_CHARACTERS = 140


@dataclass(frozen=True)
class SampleReplies:
    """One question with the replies of both models and the known one."""

    question: str
    base: str
    assistant: str
    expected: str


def pair_samples(base: Sequence[Answered], assistant: Sequence[Answered]) -> tuple[SampleReplies, ...]:
    """Every question with both replies, given in the same order."""
    return tuple(
        SampleReplies(after.question, before.reply, after.reply, after.expected)
        for before, after in zip(base, assistant, strict=True)
    )


def show_samples(samples: Sequence[SampleReplies]) -> str:
    """A few samples for the terminal, spread evenly over all, which never looks at how good they are."""
    return "\n\n".join(map(_show, evenly_spaced(samples, PRINTED_SAMPLES)))


def print_replies(step: int, question: str, replies: Mapping[str, str]) -> dict[str, str]:
    """Prints, beside a progress bar, what models reply to a question after a step; the record of it for the metrics."""
    lines = {f"step {step}": question, **{f"    {name}": reply for name, reply in replies.items()}}
    tqdm.write("\n".join(f"{name + ':':<14} {_on_one_line(text)}" for name, text in lines.items()))
    return {"question": question, **replies}


def _on_one_line(text: str) -> str:
    return shorten(printable(" ".join(text.split())), LONGEST_LINE_CHARACTERS)


def _show(sample: SampleReplies) -> str:
    return "\n".join(f"{name + ':':<11}{_indented(text)}" for name, text in vars(sample).items())


def _indented(text: str) -> str:
    shown = shorten(text, LONGEST_PRINTED_CHARACTERS)
    return re.sub(r"\n(?=[^\n])", "\n" + " " * 11, printable(shown))
