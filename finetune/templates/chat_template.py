"""A tokenizer's chat template, asked for texts: each with its control tokens, and with what of it is learned."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerFast

from configs import InputError
from configs.errors import on_one_line
from finetune.conversations.messages import Conversation, Message
from finetune.templates.layout import for_template
from finetune.templates.rows import Row, Span
from finetune.templates.structure import Structure, Structures, control_pattern
from tokenizer_ext.foreign.template_trial import try_template
from tokenizer_ext.huggingface.plain_text import control_tokens_of

Stretch = tuple[int, int]
FindGiven = Callable[[str], list[Stretch]]
"""The stretches of what an assistant says that somebody else says for it."""


class ChatTemplate:
    """The chat template of a tokenizer.

    Raises:
        InputError: it cannot be used: it fails, or it does not end.

    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, options: Mapping[str, Any]) -> None:
        self.tokenizer, self.options = tokenizer, dict(options)
        self.text = str(tokenizer.get_chat_template())
        try_template(self.text, tokenizer.special_tokens_map, self.options)
        self.control_ids = control_tokens_of(tokenizer)
        added = tokenizer.added_tokens_decoder
        special = frozenset(id_ for id_ in self.control_ids.values() if added[id_].special)
        # What an assistant writes itself between others: the marks of its reasoning and of its calls.
        self.own_ids = {text: id_ for text, id_ in self.control_ids.items() if id_ not in special and text in self.text}
        self.own_pattern = control_pattern(self.own_ids)
        self.structures = Structures(self.render, self.control_ids, special)
        self.takes_left = {id_ for id_ in self.control_ids.values() if added[id_].lstrip}
        self.takes_right = {id_ for id_ in self.control_ids.values() if added[id_].rstrip}

    def render(self, messages: list[dict[str, Any]], prompt: bool, tools: str | None) -> str:
        """What `apply_chat_template` writes; with `prompt` up to where the assistant speaks next."""
        definitions = None if tools is None else json.loads(tools)
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tools=definitions, add_generation_prompt=prompt, tokenize=False, **self.options
            )
        except Exception as error:  # a template may raise whatever it likes
            raise InputError(f"the base's chat template refuses it ({on_one_line(error, 160)})") from None
        return str(text)

    def to_row(
        self,
        structure: Structure,
        messages: Sequence[Message],
        tools: str | None,
        *,
        prompt: bool = False,
        find_given: FindGiven | None = None,
    ) -> Row:
        """The text of a conversation with what is learned of it, proved to be what the template writes.

        Raises:
            InputError: the template looks into what messages say, and writes these otherwise.

        """
        filled = structure.layout.fill(messages)
        if filled.text != self.render([for_template(message) for message in messages], prompt, tools):
            raise InputError("the base's chat template looks into what a message says, and writes it otherwise")
        controls = [(filled.place(start), filled.place(end), id_) for start, end, id_ in structure.controls]
        given = list[Stretch]()
        for slot, (start, end) in zip(structure.layout.slots, filled.slots, strict=True):
            if messages[slot.message].role != "assistant":
                continue
            marks = self.own_pattern.finditer(filled.text, start, end)
            controls += [(*mark.span(), self.own_ids[mark.group()]) for mark in marks]
            if find_given is not None and slot.text == "content":
                given += [(start + first, start + last) for first, last in find_given(filled.text[start:end])]
        learned = [(filled.place(turn.start), filled.place(turn.end)) for turn in structure.turns]
        weights = [messages[turn.message].weight for turn in structure.turns]
        return Row(filled.text, self._widened(filled.text, sorted(controls)), learned, given, weights)

    def check_tools(self, conversation: Conversation) -> None:
        """Refuses tools that the template does not show, or that hold a control token."""
        messages, tools = conversation.messages, conversation.tools
        calling = [number for number, message in enumerate(messages) if message.tool_calls]
        if tools is None and not calling:
            return
        called = [call.name + call.arguments for number in calling for call in messages[number].tool_calls]
        if found := self.structures.pattern.search("\0".join([tools or "", *called])):
            raise InputError(f"tools or tool_calls hold the control token {found.group()!r}, expected text without")
        shown = self.structures.of_turns(messages, [], tools).layout.text
        if tools is not None and shown == self.structures.of_turns(messages, [], None).layout.text:
            raise InputError("the base's chat template does not show tools")
        for number in calling:
            without = [replace(one, tool_calls=()) if place == number else one for place, one in enumerate(messages)]
            if shown == self.structures.of_turns(without, [], tools).layout.text:
                raise InputError("the base's chat template does not show tool_calls")

    def _widened(self, text: str, controls: Sequence[Span]) -> Sequence[Span]:
        """Control tokens with the blanks that some of them take in."""
        if not self.takes_left and not self.takes_right:
            return controls
        wide = list[Span]()
        for start, end, id_ in controls:
            first = max(len(text[:start].rstrip()), wide[-1][1] if wide else 0) if id_ in self.takes_left else start
            last = len(text) - len(text[end:].lstrip()) if id_ in self.takes_right else end
            wide.append((first, last, id_))
        return wide
