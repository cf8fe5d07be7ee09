"""A base's own chat template: what `apply_chat_template` gives, with a loss mask, and nothing that content could forge.

Ids and mask come from one rendering. Every conversation is proved: the text is the one that `apply_chat_template`
renders, and so are the ids wherever no message holds the letters of a control token.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from configs import InputError
from configs.errors import on_one_line
from finetune.chat.calculator import split_results
from finetune.chat.rendered import RenderedConversation, RenderedSet, starts_of
from finetune.chat.template_layout import for_template
from finetune.chat.template_rows import EncodedRow, Row, Span, encode_rows
from finetune.chat.template_structure import Structure, Structures, control_pattern
from finetune.chat.template_trial import try_template
from finetune.conversations.formats import Conversation, Message
from tokenizer_ext.huggingface.plain_text import control_tokens_of, plain_text_encoder

ROWS_AT_ONCE = 256
PROBE = (Message("user", "."), Message("assistant", "."))
THOUGHT = "</think>"


class TemplateFormat:
    """A chat template in the ids of its tokenizer.

    Raises:
        InputError: the template cannot be used: it fails, it does not end, or it has no end of turn.

    """

    name = "base"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        calculator: bool = False,
        *,
        stops: Sequence[int] = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        self.tokenizer, self.calculator, self.options = tokenizer, calculator, options or {}
        self.template = str(tokenizer.get_chat_template())
        try_template(self.template, tokenizer.special_tokens_map, self.options)
        known = control_tokens_of(tokenizer)
        added = tokenizer.added_tokens_decoder
        self.control_ids = frozenset(known.values())
        special = frozenset(id_ for id_ in known.values() if added[id_].special)
        self.structures = Structures(self._render, known, special)
        # What an assistant writes itself between others: the marks of its reasoning and of its calls.
        self.own_ids = {text: id_ for text, id_ in known.items() if id_ not in special and text in self.template}
        self.own_pattern = control_pattern(self.own_ids)
        self.end_id = self._probe()
        stopping = (self.end_id, *stops, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]))
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(stopping))

    @property
    def pad_id(self) -> int:
        """An id to fill rows with; what it is has no effect."""
        return self.end_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def render(self, conversation: Conversation) -> RenderedConversation:
        """The whole conversation; where it takes several rows, the last one."""
        return self.render_set([conversation])[-1]

    def render_set(self, conversations: Sequence[Conversation]) -> RenderedSet:
        """Each conversation in one row, or in one row a reply where the template rewrites what was said before.

        Raises:
            InputError: the template cannot render one of them as it is; the first, and the number of others.

        """
        parts, failures = list[RenderedSet](), list[str]()
        for start in range(0, len(conversations), ROWS_AT_ONCE):
            chunk = conversations[start : start + ROWS_AT_ONCE]
            rows, sources = self._rows_of(chunk, failures)
            parts.append(_to_set(rows, [start + number for number in sources]))
        if failures:
            others = f" ({len(failures) - 1:,} other conversations fail too)" if len(failures) > 1 else ""
            raise InputError(f"{failures[0]}{others}: change the data, or pass --chat graft")
        return RenderedSet.joined(parts)

    def render_prompt(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The ids after which the assistant speaks."""
        structure = self.structures.of_prompt(messages, tools)
        row = self._to_row(structure, messages, tools, prompt=True)
        return self._encode([row])[0].ids

    def render_reply(self, conversation: Conversation) -> RenderedConversation:
        """The ids of the last message behind the prompt, without an end; supervised is what of it is its own text."""
        messages, number = conversation.messages, len(conversation.messages) - 1
        structure = self.structures.of_turns(messages, [number], conversation.tools)
        row = self._to_row(structure, messages, conversation.tools)
        encoded = self._encode([row], cut_prompts=True)[0]
        filled, (begin, end) = structure.layout.fill(messages), row.learned[0]
        said = [
            span
            for slot, span in zip(structure.layout.slots, filled.slots, strict=True)
            if slot.message == number and slot.text == "content"
        ]
        nexts = [*encoded.places[1:], len(row.text)]
        reply = [
            (id_, any(place < b and following > a for a, b in said) and not _is_inside(place, row.given))
            for id_, place, following in zip(encoded.ids, encoded.places, nexts, strict=True)
            if begin <= place < end
        ][:-1]
        return RenderedConversation([id_ for id_, _ in reply], [own for _, own in reply])

    def decode_reply(self, ids: Sequence[int]) -> str:
        """The text of generated ids up to the first that ends a reply; of a reply with reasoning, what follows that."""
        stop = next((place for place, id_ in enumerate(ids) if id_ in self.stop_ids), len(ids))
        reply = list(ids[:stop])
        if (thought := self.own_ids.get(THOUGHT)) in reply:
            reply = reply[len(reply) - reply[::-1].index(thought) :]
        return str(self.tokenizer.decode(reply, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def decided_by(self) -> dict[str, Any]:
        """The template with what it is given, and what it writes today: some write the date."""
        probe = self.structures.of_turns(PROBE, [1], None).layout.text
        return {"format": self.name, "template": self.template, "options": self.options, "writes": probe}

    @cached_property
    def _encoder(self) -> Tokenizer:
        return plain_text_encoder(self.tokenizer)

    def _probe(self) -> int:
        """The id that ends an assistant's turn."""
        try:
            return self.structures.of_turns(PROBE, [1], None).turns[0].end_id
        except InputError as error:
            where = self.tokenizer.name_or_path or "tokenizer"
            raise InputError(f"{where}: {error}: pass --chat graft to use the project's own format") from None

    def _render(self, messages: list[dict[str, Any]], prompt: bool, tools: str | None) -> str:
        definitions = None if tools is None else json.loads(tools)
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tools=definitions, add_generation_prompt=prompt, tokenize=False, **self.options
            )
        except Exception as error:  # a template may raise whatever it likes
            raise InputError(f"the base's chat template refuses it ({on_one_line(error, 160)})") from None
        return str(text)

    def _rows_of(
        self, conversations: Sequence[Conversation], failures: list[str]
    ) -> tuple[list[EncodedRow], list[int]]:
        """The rows of some conversations, and the number of the conversation that each is of."""
        whole: list[tuple[int, Row, int]] = []
        for number, conversation in enumerate(conversations):
            learned = _learned_turns(conversation)
            try:
                structure = self.structures.of_turns(conversation.messages, learned, conversation.tools)
                self._check_tools(conversation)
                rows = [self._to_row(structure, conversation.messages, conversation.tools)] if structure.stable else []
                rows = rows or self._row_of_each_turn(conversation)
            except InputError as error:
                failures.append(f"{conversation.source}: {error}")
                continue
            whole += [(number, row, len(row.learned)) for row in rows]
        encoded = self._encode([row for _, row, _ in whole])
        found, sources = list[EncodedRow](), list[int]()
        for (number, row, turns), one in zip(whole, encoded, strict=True):
            rows = [one]
            if one.prompts_inside_a_token:
                apart = [row] if turns == 1 else self._row_of_each_turn(conversations[number])
                rows = self._encode(apart, cut_prompts=True)
            found += rows
            sources += [number] * len(rows)
        return found, sources

    def _row_of_each_turn(self, conversation: Conversation) -> list[Row]:
        """For each reply that is learned the conversation up to there, as a server would see it."""
        rows = []
        for number in _learned_turns(conversation):
            messages = conversation.messages[: number + 1]
            structure = self.structures.of_turns(messages, [number], conversation.tools)
            if not structure.stable:
                raise InputError("the template renders the same reply in two ways")
            rows.append(self._to_row(structure, messages, conversation.tools))
        return rows

    def _to_row(
        self, structure: Structure, messages: Sequence[Message], tools: str | None, *, prompt: bool = False
    ) -> Row:
        """The rendering of a conversation with what is learned of it, proved to be the template's.

        Raises:
            InputError: the template looks into what messages say, and renders these otherwise.

        """
        filled = structure.layout.fill(messages)
        if filled.text != self._render([for_template(message) for message in messages], prompt, tools):
            raise InputError("the template renders these messages otherwise than others of their kind")
        controls = [(filled.place(start), filled.place(end), id_) for start, end, id_ in structure.controls]
        cuts, given = list[int](), list[tuple[int, int]]()
        for slot, (start, end) in zip(structure.layout.slots, filled.slots, strict=True):
            if messages[slot.message].role != "assistant":
                continue
            marks = self.own_pattern.finditer(filled.text, start, end)
            controls += [(*mark.span(), self.own_ids[mark.group()]) for mark in marks]
            if self.calculator and slot.text == "content":
                results = _results_in(filled.text[start:end], start)
                cuts += [edge for result in results for edge in result]
                given += results
        learned = [(filled.place(turn.start), filled.place(turn.end)) for turn in structure.turns]
        return Row(filled.text, self._widened(filled.text, sorted(controls)), learned, cuts, given)

    def _widened(self, text: str, controls: Sequence[Span]) -> list[Span]:
        """Control tokens with the blanks that their tokens take with them."""
        added, wide = self.tokenizer.added_tokens_decoder, list[Span]()
        for start, end, id_ in controls:
            if added[id_].lstrip:
                start = max(len(text[:start].rstrip()), wide[-1][1] if wide else 0)
            if added[id_].rstrip:
                end = len(text) - len(text[end:].lstrip())
            wide.append((start, end, id_))
        return wide

    def _encode(self, rows: Sequence[Row], *, cut_prompts: bool = False) -> list[EncodedRow]:
        """The ids of each row, those of the tokenizer itself wherever nobody writes the letters of a control token."""
        encoded = encode_rows(rows, self._encoder, cut_prompts=cut_prompts)
        theirs = self.tokenizer.backend_tokenizer.encode_batch([row.text for row in rows], add_special_tokens=False)
        for row, ours, other in zip(rows, encoded, theirs, strict=True):
            forged = self.structures.pattern.findall(row.text)
            cut = row.cuts or (cut_prompts and ours.prompts_inside_a_token)
            if not cut and len(forged) == len(row.controls) and ours.ids != other.ids:
                raise AssertionError(f"{row.text[:200]!r}: ids {ours.ids[:20]}, the tokenizer's {other.ids[:20]}")
        return encoded

    def _check_tools(self, conversation: Conversation) -> None:
        """Refuses tools that the template does not show, or that hold a control token."""
        messages, tools = conversation.messages, conversation.tools
        calls = [number for number, message in enumerate(messages) if message.tool_calls]
        if tools is None and not calls:
            return
        written = [tools or "", *(call.name + call.arguments for number in calls for call in messages[number].tool_calls)]
        if found := self.structures.pattern.search("\0".join(written)):
            raise InputError(f"tools or tool_calls hold the control token {found.group()!r}")
        shown = self.structures.of_turns(messages, [], tools).layout.text
        if tools is not None and shown == self.structures.of_turns(messages, [], None).layout.text:
            raise InputError("the base's chat template does not show tools")
        for number in calls:
            without = [replace(one, tool_calls=()) if place == number else one for place, one in enumerate(messages)]
            if shown == self.structures.of_turns(without, [], tools).layout.text:
                raise InputError("the base's chat template does not show tool_calls")


def _learned_turns(conversation: Conversation) -> list[int]:
    """The messages that are learned; a greeting that nobody asked for is none."""
    return [
        number
        for number, message in enumerate(conversation.messages)
        if message.role == "assistant" and message.learned and number > 0
    ]


def _results_in(text: str, start: int) -> list[tuple[int, int]]:
    """Where the calculator's results stand in a text that begins at `start`."""
    results, place = list[tuple[int, int]](), start
    for piece, learned in split_results(text):
        if not learned:
            results.append((place, place + len(piece)))
        place += len(piece)
    return results


def _is_inside(place: int, stretches: Sequence[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in stretches)


def _to_set(rows: Sequence[EncodedRow], sources: Sequence[int]) -> RenderedSet:
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    ids = np.array([id_ for row in rows for id_ in row.ids], dtype=np.int32)
    learned = np.array([flag for row in rows for flag in row.learned], dtype=np.bool_)
    return RenderedSet(ids, learned, starts_of(lengths), lengths, np.array(sources, dtype=np.int64))
