"""Which stretches of a rendered conversation the assistant itself would have to say, for every shape of conversation.

A turn of the assistant begins where the template's own prompt for it ends, and ends with the last special token of the
turn. A template is stable on a conversation where each turn, seen as the last one, is rendered as it is later in the
history; one that is not (Qwen3 leaves out old reasoning) gives a row of its own for each reply, with the history as a
server would see it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.formats import Message
from finetune.templates.layout import Layout, lay_out, shape_of
from finetune.templates.rows import Span

RenderMessages = Callable[[list[dict[str, object]], bool, str | None], str]
"""Messages, whether the assistant speaks next, and the definitions of tools, into a text."""


@dataclass(frozen=True)
class Turn:
    """A turn of the assistant in a layout: from where its prompt ends to behind the token that ends it."""

    message: int
    start: int
    end: int
    end_id: int


@dataclass(frozen=True)
class Structure:
    """What a template writes for conversations of one shape, and which turns of it are learned."""

    layout: Layout
    controls: tuple[Span, ...]
    """The control tokens that the template writes, in places of the layout."""
    turns: tuple[Turn, ...] = ()
    stable: bool = True
    """Whether all turns are learned from this one rendering."""


class Structures:
    """The structures that one template has, each found once."""

    def __init__(self, render: RenderMessages, control_ids: Mapping[str, int], special: frozenset[int]) -> None:
        self.render, self.control_ids, self.special = render, control_ids, special
        self.pattern = control_pattern(control_ids)
        self._found: dict[object, Structure] = {}

    def of_prompt(self, messages: Sequence[Message], tools: str | None) -> Structure:
        """The prompt after which the assistant speaks."""
        key = ("prompt", shape_of(messages), tools)
        if key not in self._found:
            layout = self._lay_out(messages, tools, prompt=True)
            self._found[key] = Structure(layout, self.find_controls(layout))
        return self._found[key]

    def of_turns(self, messages: Sequence[Message], learned: Sequence[int], tools: str | None) -> Structure:
        """The conversation with some turns of the assistant, by the numbers of their messages.

        Raises:
            InputError: the template cannot be used for it; the reason.

        """
        key = (tuple(learned), shape_of(messages), tools)
        if key not in self._found:
            layout = self._lay_out(messages, tools, prompt=False)
            _check_complete(layout, messages, set(learned))
            turns = [self._find_turn(messages, number, tools) for number in learned]
            stable = all(self._is_same(layout, messages, turn, tools) for turn in turns)
            self._found[key] = Structure(layout, self.find_controls(layout), tuple(turns), stable)
        return self._found[key]

    def find_controls(self, layout: Layout) -> tuple[Span, ...]:
        """The control tokens in what the template writes itself."""
        return tuple((*found.span(), self.control_ids[found.group()]) for found in self.pattern.finditer(layout.text))

    def _find_turn(self, messages: Sequence[Message], number: int, tools: str | None) -> Turn:
        """The turn of a message, seen as the last one."""
        prompt = self.of_prompt(messages[:number], tools).layout
        last = self._lay_out(messages[: number + 1], tools, prompt=False)
        if not last.text.startswith(prompt.text):
            raise InputError(
                "what the template writes for a prompt is no beginning of what it writes once the assistant has spoken"
            )
        _check_shown(last, messages, number)
        said = max((slot.end for slot in last.slots if slot.message == number), default=len(prompt.text))
        ends = [span for span in self.find_controls(last) if span[0] >= said and span[2] in self.special]
        if not ends:
            raise InputError(
                "no special token ends an assistant's turn in the template, so the model would not learn when to stop"
            )
        return Turn(number, len(prompt.text), ends[-1][1], ends[-1][2])

    def _is_same(self, layout: Layout, messages: Sequence[Message], turn: Turn, tools: str | None) -> bool:
        last = self._lay_out(messages[: turn.message + 1], tools, prompt=False)
        slots = [slot for slot in last.slots if slot.end <= turn.end]
        return last.text[: turn.end] == layout.text[: turn.end] and list(layout.slots[: len(slots)]) == slots

    def _lay_out(self, messages: Sequence[Message], tools: str | None, *, prompt: bool) -> Layout:
        key = (prompt, shape_of(messages), tools, "layout")
        if key not in self._found:
            layout = lay_out(lambda said, asked: self.render(said, asked, tools), messages, prompt=prompt)
            if layout is None:
                raise InputError("the template changes what messages say in a way that is not known here")
            self._found[key] = layout  # type: ignore[assignment]
        return self._found[key]  # type: ignore[return-value]


def control_pattern(control_ids: Mapping[str, int]) -> re.Pattern[str]:
    """What finds control tokens as a tokenizer does: the leftmost, of those that begin there the longest."""
    if not control_ids:
        return re.compile("(?!)")
    by_length = sorted(control_ids, key=len, reverse=True)
    first = "".join(re.escape(letter) for letter in sorted({token[0] for token in by_length}))
    return re.compile(f"(?=[{first}])(?:{'|'.join(map(re.escape, by_length))})")


def _check_complete(layout: Layout, messages: Sequence[Message], learned: set[int]) -> None:
    """Refuses a template that leaves out what somebody said; old reasoning it may leave out, the assistant's own."""
    for number, message in enumerate(messages):
        if message.content.strip() and not layout.holds(number, "content") and number not in learned:
            raise InputError(f"the template leaves out what message {number + 1} ({message.role}) says")


def _check_shown(last: Layout, messages: Sequence[Message], number: int) -> None:
    message = messages[number]
    for text, name in (("content", "text"), ("reasoning", "reasoning_content")):
        said = getattr(message, text)
        if said and said.strip() and not last.holds(number, text):
            raise InputError(f"the template leaves out the assistant's {name}")
