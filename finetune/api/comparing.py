"""Two models asked the same from Python: prompts, or questions with known replies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from configs import InputError
from finetune.api.given_rows import name_of_data
from finetune.conversations.questions import describe_left_alone, read_asked
from finetune.evaluation.comparison import Asking, measure_sides
from finetune.evaluation.draw import Draw
from finetune.evaluation.figures import Figure
from finetune.evaluation.side_by_side import read_both, show_replies
from finetune.replies.side import Side, asked_as, format_for_a_prompt


@dataclass(frozen=True, repr=False)
class Compared:
    """What was asked of two models, and how they did; shown as the command shows it."""

    text: str
    questions: list[dict[str, Any]]
    """Every question with both replies."""
    figures: list[Figure]
    """Each with its interval at 95 %; none of prompts, to which no reply is known."""

    def __repr__(self) -> str:
        """The text that the command prints."""
        return self.text

    def _repr_html_(self) -> str:
        """The same, for a notebook."""
        return f"<pre>{escape(self.text)}</pre>"


def ask_prompts(base: Side, tuned: Side, prompts: Sequence[str], reply_tokens: int, *, calculator: bool) -> Compared:
    """Both replies to each prompt; the likeliest token every time.

    Raises:
        InputError: there is no prompt, or one is empty.

    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise InputError(f"compare: found {list(prompts)!r:.80}, expected prompts, none of them empty")
    models = {
        which: asked_as(side, format_for_a_prompt(side, "auto", "question"), calculator=calculator)
        for which, side in (("base", base), ("tuned", tuned))
    }
    replies = [read_both(models, prompt, reply_tokens, Draw()) for prompt in prompts]
    texts = [f"{prompt}\n\n{show_replies(both, reply_tokens)}" for prompt, both in zip(prompts, replies, strict=True)]
    questions = [
        {"question": prompt, **{which: one.answered[0].reply for which, one in both.items()}}
        for prompt, both in zip(prompts, replies, strict=True)
    ]
    return Compared("\n\n\n".join(texts), questions, [])


def measure_over_data(
    base: Side, tuned: Side, data: Any, conversations: int, reply_tokens: int, *, calculator: bool
) -> Compared:
    """The figures of both over questions with known replies: a file, a Hub name, `embedded`, or rows.

    Raises:
        InputError: the questions cannot be read.

    """
    name = name_of_data(data)
    left_alone: Counter[str] = Counter()
    read, choices = read_asked(name, left_alone)
    asking = Asking(conversations, reply_tokens)
    parts = measure_sides((base, "auto"), (tuned, "auto"), read, choices, asking, calculator=calculator)
    said = [describe_left_alone(left_alone)] if left_alone else []
    return Compared(
        "\n\n".join([*said, *(part.text for part in parts)]),
        [question for part in parts for question in part.questions],
        [figure for part in parts for figure in part.figures],
    )
