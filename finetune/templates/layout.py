"""What a chat template itself writes around the messages: found by rendering it with marks in place of their texts.

A mark is a short text of private-use characters that no template writes. What stands between the marks is the
template's own; a second rendering, with marks that have blanks around them, shows which texts the template trims.
A text that is empty or blank is no mark: templates ask for that.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.conversations.formats import Message

Render = Callable[[list[dict[str, Any]], bool], str]
"""Messages as a template takes them, and whether the assistant is to speak next, into a text."""

CHANGES: Mapping[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "trimmed": str.strip,
    "trimmed on the left": str.lstrip,
    "trimmed on the right": str.rstrip,
    "without line breaks around it": lambda text: text.strip("\n"),
    "without line breaks on the left": lambda text: text.lstrip("\n"),
    "without line breaks on the right": lambda text: text.rstrip("\n"),
    "as JSON": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
}
"""What templates do to a text, by what it is called."""
LEFT, RIGHT = '\n "', '" \n'
OPENING, CLOSING = "\uf8f0", "\uf8f1"
TEXTS = ("content", "reasoning")


@dataclass(frozen=True)
class Slot:
    """Where a text of a message stands in a layout."""

    start: int
    end: int
    message: int
    text: str
    """`content` or `reasoning`."""
    change: str = "as it is"
    """One of `CHANGES`."""


@dataclass(frozen=True)
class Filled:
    """A layout with the texts of a conversation in it."""

    text: str
    slots: tuple[tuple[int, int], ...]
    """Where each slot of the layout begins and ends in the text."""
    starts: tuple[int, ...] = field(repr=False)
    moved: tuple[int, ...] = field(repr=False)

    def place(self, position: int) -> int:
        """Where a place of the layout, which is not inside a slot, stands in the text."""
        return position + self.moved[bisect_right(self.starts, position - 1)]


@dataclass(frozen=True)
class Layout:
    """What a template writes for messages of one shape, with a mark for each text of theirs."""

    text: str
    slots: tuple[Slot, ...]

    def fill(self, messages: Sequence[Message]) -> Filled:
        """The rendering of messages of that shape."""
        parts, spans, moved, done, length = [], [], [0], 0, 0
        for slot in self.slots:
            said = CHANGES[slot.change](getattr(messages[slot.message], slot.text))
            start = length + slot.start - done
            parts += [self.text[done : slot.start], said]
            length, done = start + len(said), slot.end
            spans.append((start, length))
            moved.append(length - done)
        return Filled(
            "".join([*parts, self.text[done:]]), tuple(spans), tuple(slot.start for slot in self.slots), tuple(moved)
        )

    def holds(self, message: int, text: str) -> bool:
        """Whether it shows a text of a message at all."""
        return any(slot.message == message and slot.text == text for slot in self.slots)


def lay_out(render: Render, messages: Sequence[Message], *, prompt: bool) -> Layout | None:
    """What the template writes for messages like these; None where it does to a text what no entry of `CHANGES` does.

    With `prompt`, up to where the assistant speaks next.
    """
    text = render([_marked(number, one, "", "") for number, one in enumerate(messages)], prompt)
    slots = sorted(_find_slots(text, messages), key=lambda slot: slot.start)
    if not slots:
        return Layout(text, ())
    padded = render([_marked(number, one, LEFT, RIGHT) for number, one in enumerate(messages)], prompt)
    changes = _find_changes(text, slots, padded)
    if changes is None:
        return None
    known = (
        Slot(slot.start, slot.end, slot.message, slot.text, change) for slot, change in zip(slots, changes, strict=True)
    )
    return Layout(text, tuple(known))


def for_template(message: Message) -> dict[str, Any]:
    """A message as chat templates take it, in OpenAI's names."""
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        said |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
    if message.tool_calls:
        said["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
            | ({"id": call.id} if call.id else {})
            for call in message.tool_calls
        ]
    named = {"name": message.name, "tool_call_id": message.tool_call_id}
    return said | {key: value for key, value in named.items() if value is not None}


def shape_of(messages: Sequence[Message]) -> tuple[Any, ...]:
    """All of the messages that a layout depends on: two conversations of one shape have one layout."""
    return tuple(
        (one.role, *(_kind(getattr(one, text)) for text in TEXTS), one.tool_calls, one.name, one.tool_call_id)
        for one in messages
    )


def _kind(text: str | None) -> str | None:
    """A text that is marked as a full stop, which is no blank; another one as it is."""
    return "." if text and text.strip() else text


def _mark(number: int, text: str) -> str:
    return f"{OPENING}{number}{text[0]}{CLOSING}"


def _marked(number: int, message: Message, left: str, right: str) -> dict[str, Any]:
    marks = {
        text: f"{left}{_mark(number, text)}{right}"
        for text in TEXTS
        if _kind(getattr(message, text)) == "." and getattr(message, text).strip()
    }
    names = {"content": ("content",), "reasoning": ("reasoning_content", "thinking")}
    return for_template(message) | {name: mark for text, mark in marks.items() for name in names[text]}


def _find_slots(text: str, messages: Sequence[Message]) -> list[Slot]:
    slots = []
    for number in range(len(messages)):
        for kind in TEXTS:
            mark = _mark(number, kind)
            start = text.find(mark)
            while start >= 0:
                slots.append(Slot(start, start + len(mark), number, kind))
                start = text.find(mark, start + len(mark))
    return slots


def _find_changes(text: str, slots: Sequence[Slot], padded: str) -> list[str] | None:
    """What was done to each padded mark; None where the rendering cannot be read so."""
    changes: list[str] = []
    done = slots[0].start
    if padded[:done] != text[:done]:
        return None
    ends = [*(slot.start for slot in slots[1:]), len(text)]
    for slot, end in zip(slots, ends, strict=True):
        mark, after = f"{LEFT}{text[slot.start : slot.end]}{RIGHT}", text[slot.end : end]
        found = next((name for name, change in CHANGES.items() if padded.startswith(change(mark) + after, done)), None)
        if found is None:
            return None
        changes.append(found)
        done += len(CHANGES[found](mark)) + len(after)
    return changes if done == len(padded) else None
