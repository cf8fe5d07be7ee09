"""Questions with the replies of base and assistant side by side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.conversation_sets import spread
from finetune.evaluation import Answered
from tokenizer_ext.pages.terminal import printable

PRINTED_SAMPLES = 3
LONGEST_PRINTED_CHARACTERS = 600


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
    return "\n\n".join(map(_show, spread(samples, PRINTED_SAMPLES)))


def _show(sample: SampleReplies) -> str:
    return "\n".join(f"{name + ':':<11}{_indented(text)}" for name, text in vars(sample).items())


def _indented(text: str) -> str:
    shown = text if len(text) <= LONGEST_PRINTED_CHARACTERS else f"{text[: LONGEST_PRINTED_CHARACTERS - 1]}…"
    return re.sub(r"\n(?=[^\n])", "\n" + " " * 11, printable(shown))
