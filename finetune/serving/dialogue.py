"""A dialogue with several models side by side: the same prompts, each side with its own replies before them.

It is kept as JSON by whoever talks, so that a reload loses nothing, and read with care when it comes back.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from configs import InputError
from finetune.conversations.messages import Conversation, Message

MOST_SIDES = 4
MOST_TURNS = 200
MOST_CHARACTERS = 400_000


@dataclass(frozen=True)
class Turn:
    """One prompt, and what each side replied."""

    prompt: str
    replies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """The line of figures under each reply."""


@dataclass(frozen=True)
class Dialogue:
    """The turns so far."""

    sides: tuple[str, ...] = ()
    """Names of the models."""
    turns: tuple[Turn, ...] = ()

    def put(self, sides: Sequence[str], prompt: str) -> "Dialogue":
        """With one more prompt; another choice of models begins anew.

        Raises:
            InputError: there are too many turns.
        """
        if len(self.turns) >= MOST_TURNS:
            raise InputError(f"dialogue: has {MOST_TURNS} turns, expected fewer: begin a new one")
        before = self.turns if self.sides == tuple(sides) else ()
        return Dialogue(tuple(sides), (*before, Turn(prompt)))

    def answered(self, replies: Sequence[str], notes: Sequence[str]) -> "Dialogue":
        """With these replies to its last prompt."""
        return replace(
            self, turns=(*self.turns[:-1], replace(self.turns[-1], replies=tuple(replies), notes=tuple(notes)))
        )

    def without_last(self) -> "Dialogue":
        """Without its last turn."""
        return replace(self, turns=self.turns[:-1])

    def conversation(self, side: int, system: str = "") -> Conversation:
        """What a side is asked: all that was said with it, its next reply still empty."""
        messages = [Message("system", system)] if system else []
        for turn in self.turns:
            reply = turn.replies[side] if len(turn.replies) > side else ""
            messages += [Message("user", turn.prompt), Message("assistant", reply)]
        return Conversation(tuple(messages), source="prompt")

    def to_json(self) -> str:
        """As text that `read_dialogue` reads."""
        turns = [{"prompt": one.prompt, "replies": one.replies, "notes": one.notes} for one in self.turns]
        return json.dumps({"sides": self.sides, "turns": turns}, ensure_ascii=False)

    def to_markdown(self) -> str:
        """For a reader: every prompt, and below it the sides' replies, each in a fence that its text cannot close."""
        parts = [f"# {' beside '.join(self.sides)}"]
        for number, turn in enumerate(self.turns, 1):
            parts.append(f"## {number}\n\n{_fenced(turn.prompt)}")
            notes = [*turn.notes, *[""] * len(turn.replies)]
            for side, reply, note in zip(self.sides, turn.replies, notes, strict=False):
                parts.append(f"**{side}** {note}\n\n{_fenced(reply)}".replace("** \n", "**\n"))
        return "\n\n".join(parts) + "\n"

    def to_jsonl(self, system: str = "") -> str:
        """A line a side, in OpenAI's messages, with the name of the model."""
        return "".join(f"{self.row(side, system, model=True)}\n" for side in range(len(self.sides)))

    def row(self, side: int, system: str = "", *, model: bool = False) -> str:
        """What was said with one side as a line of training data.

        Raises:
            InputError: it has said nothing.
        """
        messages = self.conversation(side, system).messages
        if not self.turns or not messages[-1].content:
            raise InputError("dialogue: this side has not replied yet, expected a reply to keep")
        said: dict[str, Any] = {"messages": [{"role": one.role, "content": one.content} for one in messages]}
        return json.dumps(said | ({"model": self.sides[side]} if model else {}), ensure_ascii=False)


def read_dialogue(text: object) -> Dialogue:
    """The dialogue in what a browser kept; an empty text is a new one.

    Raises:
        InputError: it is none.
    """
    if not text:
        return Dialogue()
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise InputError(f"dialogue: expected text of at most {MOST_CHARACTERS:,} characters: begin a new one")
    try:
        found = json.loads(text)
        turns = tuple(
            Turn(_text(one["prompt"]), _texts(one["replies"]), _texts(one["notes"])) for one in found["turns"]
        )
        sides = _texts(found["sides"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"dialogue: is none ({type(error).__name__}), expected what this page kept: begin anew"
        ) from None
    if len(turns) > MOST_TURNS or len(sides) > MOST_SIDES or any(len(one.replies) > len(sides) for one in turns):
        raise InputError("dialogue: has more turns or sides than a page keeps: begin a new one")
    return Dialogue(sides, turns)


def _texts(found: object) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise TypeError
    return tuple(_text(one) for one in found)


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError
    return found


def _fenced(text: str) -> str:
    longest = max((len(run) for run in "".join(c if c == "`" else " " for c in text).split()), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
