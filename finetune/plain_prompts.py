"""The three plain-text ways in which a base model, which knows no chat format, is asked at its best.

A base model continues text. Each way writes the conversation so that the likeliest continuation is the reply, and says
where the reply ends: at a blank line, or where the text goes on with somebody's next turn.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.conversations import Message


@dataclass(frozen=True, kw_only=True)
class PlainPrompt:
    """One way to write a conversation as plain text."""

    labels: Mapping[str, str]
    """What stands before a message of each role, the empty text for nothing."""
    between: str
    """What stands between two messages."""
    separator: str
    """What stands between the prompt and the reply; it belongs to the reply's first token (" The", not "The")."""

    def text(self, messages: Sequence[Message]) -> str:
        r"""The prompt, which ends where the reply begins.

        >>> PLAIN_PROMPTS["question"].text([Message("system", "Be brief."), Message("user", "1+1?")])
        'Be brief.\n\nQuestion: 1+1?\nAnswer:'
        """
        system = "".join(f"{message.content}\n\n" for message in messages if message.role == "system")
        turns = [self._turn(message) for message in messages if message.role != "system"]
        return system + self.between.join([*turns, self.labels["assistant"]])

    def continuation(self, reply: str) -> str:
        """`reply` as it would follow the prompt, for scoring a known reply."""
        return self.separator + reply

    def cut(self, generated: str) -> str:
        r"""The reply in what a base model generated: up to the first blank line or next turn.

        >>> PLAIN_PROMPTS["question"].cut(" 2\nQuestion: 2+2?\nAnswer: 4")
        '2'
        """
        labels = [re.escape(label) for label in self.labels.values() if label]
        ends = [r"\n[ \t]*\n", *(rf"(?:\A|\n)[ \t]*{label}" for label in labels)]
        return re.split("|".join(ends), generated.strip(), maxsplit=1)[0].strip()

    def _turn(self, message: Message) -> str:
        label = self.labels[message.role]
        return f"{label}{self.separator}{message.content}" if label else message.content


PLAIN_PROMPTS: Mapping[str, PlainPrompt] = {
    "question": PlainPrompt(labels={"user": "Question:", "assistant": "Answer:"}, between="\n", separator=" "),
    "dialogue": PlainPrompt(labels={"user": "User:", "assistant": "Assistant:"}, between="\n", separator=" "),
    "bare": PlainPrompt(labels={"user": "", "assistant": ""}, between="\n\n", separator=""),
}
