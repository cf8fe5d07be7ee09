"""What every chat format gives: conversations as ids and loss mask, prompts to reply to, and where a reply ends.

There are two: `GraftFormat`, the project's own, for a base that has none, and `TemplateFormat`, the base's own chat
template. `choose_format` says which one a tokenizer is asked in.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

from transformers import PreTrainedTokenizerFast

from finetune.chat.rendered import RenderedConversation, RenderedSet
from finetune.conversations.formats import Conversation, Message
from tokenizer_ext.pages.terminal import printable


class ChatFormat(Protocol):
    """One chat format in the ids of one tokenizer."""

    name: str
    """`graft` for the project's own, `base` for the base's own chat template."""
    tokenizer: PreTrainedTokenizerFast
    calculator: bool
    """Whether the results of annotations such as ``<<48/2=24>>`` in assistant turns are read and not learned."""
    end_id: int
    """The id that ends an assistant's turn; it is learned."""
    stop_ids: tuple[int, ...]
    """Where a reply ends: at `end_id`, and at what else stops the base."""
    control_ids: frozenset[int]
    """The ids that a message's text never becomes."""

    @property
    def pad_id(self) -> int:
        """An id to fill rows with; what it is has no effect."""

    def render_set(self, conversations: Iterable[Conversation]) -> RenderedSet:
        """The ids of each conversation, never cut, with what of it is learned; in one row, or in one for each reply."""

    def render_parts(self, conversations: Iterable[Conversation]) -> Iterator[RenderedSet]:
        """The same some hundred conversations at a time, so that any number of them can be rendered."""

    def render(self, conversation: Conversation) -> RenderedConversation:
        """The same of one conversation."""

    def render_prompt(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The ids after which the assistant speaks."""

    def render_reply(self, conversation: Conversation) -> RenderedConversation:
        """The ids of the last message after the prompt, without an end; supervised is what of it is its own text."""

    def decode_reply(self, ids: Sequence[int]) -> str:
        """The text of generated ids up to, not including, the first id that ends a reply."""

    def decided_by(self) -> dict[str, Any]:
        """What decides the ids beside the conversations and the tokenizer, for the key of a cache."""


def describe_format(chat: ChatFormat) -> str:
    """Which chat format is learned, and where a reply in it ends."""
    whose = "the base's own template" if chat.name == "base" else "the project's own, since the base is to learn it"
    stops = chat.tokenizer.convert_ids_to_tokens(list(chat.stop_ids))
    others = f"; a reply also stops at {', '.join(stops[1:])}" if stops[1:] else ""
    return (
        f"chat format: {whose}; an assistant's turn ends with {stops[0]} (id {chat.end_id}), which is learned{others}"
    )


def mask_as_text(rendered: RenderedConversation, decode: Callable[[list[int]], str], *, colour: bool = False) -> str:
    """The conversation as text with what is learned made visible: green in a terminal, else in double brackets.

    Behind what counts less than 1 in the loss stands how much it counts.
    Control characters, other than line breaks, are written as escapes: a terminal must not act on what a file says.
    """
    opening, closing = ("\x1b[32m", "\x1b[0m") if colour else ("[[", "]]")
    parts = []
    weights = map(float, rendered.supervised) if rendered.weights is None else rendered.weights
    for weight, pairs in groupby(zip(rendered.input_ids, weights, strict=True), key=lambda pair: pair[1]):
        text = printable(decode([token for token, _ in pairs]))
        parts.append(f"{opening}{text}{closing}{f' x {weight:g}' if weight < 1 else ''}" if weight else text)
    return "".join(parts)
