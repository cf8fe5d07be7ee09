"""The table of base against assistant: one row a figure, for the terminal, the model card and the report."""

from collections.abc import Mapping

from finetune.evaluation import Scores

Row = tuple[str, str, str]
"""Name, base, assistant."""


def score_rows(base: Scores, assistant: Scores) -> list[Row]:
    """The figures of both, written out; exact match only where something can be checked."""
    figures = {
        "bits per byte of the known reply (lower is better)": ("bits_per_byte", ".3f"),
        f"exact match on {base.checkable} checkable questions": ("exact_match", ".1%"),
        "replies that end by themselves": ("stop_rate", ".1%"),
        "replies that repeat four words three times": ("repetition_rate", ".1%"),
    }
    return [
        (name, format(getattr(base, field), form), format(getattr(assistant, field), form))
        for name, (field, form) in figures.items()
        if base.checkable or field != "exact_match"
    ] + calculation_rows(base, assistant)


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


def prompt_rows(by_prompt: Mapping[str, Scores]) -> list[tuple[str, str, str, str, str]]:
    """The figures of a base in each plain-text way: name, bits per byte, exact match, stop rate, repetition rate."""
    return [
        (
            name,
            f"{one.bits_per_byte:.3f}",
            f"{one.exact_match:.1%}" if one.checkable else "–",
            f"{one.stop_rate:.1%}",
            f"{one.repetition_rate:.1%}",
        )
        for name, one in by_prompt.items()
    ]
