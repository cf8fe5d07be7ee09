"""A base's own chat template: what `apply_chat_template` gives, with a loss mask, and nothing that content could forge.

Ids and mask come from one rendering. Every conversation is proved: the text is the one that `apply_chat_template`
renders, and the ids are the tokenizer's own wherever no message holds the letters of a control token.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.calculator import split_results
from finetune.chat.rendered import RenderedConversation, RenderedSet, as_learned, starts_of
from finetune.chat.rendering import render_in_parts
from finetune.conversations.formats import Conversation, Message
from finetune.templates.chat_template import ChatTemplate
from finetune.templates.rows import EncodedRow, Row
from finetune.templates.structure import Structure
from finetune.templates.whole_rows import RowEncoder

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
        self.tokenizer, self.calculator = tokenizer, calculator
        self.template = ChatTemplate(tokenizer, options or {})
        self.structures, self.control_ids = self.template.structures, frozenset(self.template.control_ids.values())
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

    def render_set(self, conversations: Iterable[Conversation]) -> RenderedSet:
        """Each conversation in one row, or in one row a reply where the template rewrites what was said before.

        Raises:
            InputError: the template cannot render one of them as it is; the first, and the number of others.

        """
        return RenderedSet.joined(list(self.render_parts(conversations)))

    def render_parts(self, conversations: Iterable[Conversation]) -> Iterator[RenderedSet]:
        """The same some hundred conversations at a time; it is raised behind the last of them."""
        renderer = _Renderer(self)
        yield from render_in_parts(renderer, conversations, self.stop_ids)
        if failures := renderer.failures:
            others = f" ({len(failures) - 1:,} other conversations fail too)" if len(failures) > 1 else ""
            raise InputError(f"{failures[0]}{others}: change the data, or pass --chat graft")

    def render_prompt(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The ids after which the assistant speaks."""
        messages = self.as_shown(Conversation(tuple(messages), "prompt")).messages
        structure = self.structures.of_prompt(messages, tools)
        row = self.row(structure, messages, tools, prompt=True)
        return self.encoder.encode([row])[0].ids

    def render_reply(self, conversation: Conversation) -> RenderedConversation:
        """The ids of the last message behind the prompt, without an end; supervised is what of it is its own text.

        Of a message that calls tools that is all of it: how a call is written is the assistant's to say.
        """
        conversation = self.as_shown(conversation)
        messages, number = conversation.messages, len(conversation.messages) - 1
        structure = self.structures.of_turns(messages, [number], conversation.tools)
        row = self.row(structure, messages, conversation.tools)
        encoded = self.encoder.encode([row], cut_prompts=True, places=True)[0]
        filled, (begin, end) = structure.layout.fill(messages), row.learned[0]
        said = [
            span
            for slot, span in zip(structure.layout.slots, filled.slots, strict=True)
            if slot.message == number and slot.text == "content"
        ]
        said = [(begin, end)] if messages[number].tool_calls else said
        nexts = [*encoded.places[1:], len(row.text)]
        reply = [
            (id_, any(a <= place < b or place < a < following for a, b in said) and not _is_inside(place, row.given))
            for id_, place, following in zip(encoded.ids, encoded.places, nexts, strict=True)
            if begin <= place < end
        ][:-1]
        return RenderedConversation([id_ for id_, _ in reply], [own for _, own in reply])

    def decode_reply(self, ids: Sequence[int]) -> str:
        """The text of generated ids up to the first that ends a reply; of a reply with reasoning, what follows that."""
        stop = next((place for place, id_ in enumerate(ids) if id_ in self.stop_ids), len(ids))
        reply = list(ids[:stop])
        if (thought := self.template.own_ids.get(THOUGHT)) in reply:
            reply = reply[len(reply) - reply[::-1].index(thought) :]
        return str(self.tokenizer.decode(reply, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def decided_by(self) -> dict[str, Any]:
        """The template with what it is given, and what it writes today: some write the date."""
        probe = self.structures.of_turns(PROBE, [1], None).layout.text
        return {"format": self.name, "template": self.template.text, "options": self.template.options, "writes": probe}

    def as_shown(self, conversation: Conversation) -> Conversation:
        """The conversation; thoughts in an assistant's text stay there where the template knows of no reasoning."""
        if self._shows_reasoning:
            return conversation
        return replace(conversation, messages=tuple(message.as_written() for message in conversation.messages))

    @cached_property
    def _shows_reasoning(self) -> bool:
        thinking = (PROBE[0], replace(PROBE[1], reasoning="."))
        try:
            return self.structures.of_turns(thinking, [1], None).layout.holds(1, "reasoning")
        except InputError:
            return False

    @cached_property
    def encoder(self) -> RowEncoder:
        """What gives the rows' ids."""
        return RowEncoder(self.tokenizer, self.structures.pattern)

    def _probe(self) -> int:
        """The id that ends an assistant's turn."""
        try:
            return self.structures.of_turns(PROBE, [1], None).turns[0].end_id
        except InputError as error:
            where = self.tokenizer.name_or_path or "tokenizer"
            raise InputError(f"{where}: {error}: pass --chat graft to use the project's own format") from None

    def row_of_each_turn(self, conversation: Conversation) -> list[Row]:
        """For each reply that is learned the conversation up to there, as a server would see it."""
        rows = []
        for number in _learned_turns(conversation):
            messages = conversation.messages[: number + 1]
            structure = self.structures.of_turns(messages, [number], conversation.tools)
            if not structure.stable:
                raise InputError("the template renders the same reply in two ways")
            rows.append(self.row(structure, messages, conversation.tools))
        return rows

    def row(self, structure: Structure, messages: Sequence[Message], tools: str | None, *, prompt: bool = False) -> Row:
        """The text of a conversation with what is learned of it, as `ChatTemplate.to_row` gives it."""
        find_given = _find_results if self.calculator else None
        return self.template.to_row(structure, messages, tools, prompt=prompt, find_given=find_given)


@dataclass(frozen=True)
class _Texts:
    """Some conversations as rows to encode."""

    conversations: list[Conversation]
    rows: list[Row]
    sources: list[int]
    """The number of the conversation that each row is of."""


@dataclass
class _Renderer:
    """A format that renders one set of conversations, with what it could not render."""

    chat: TemplateFormat
    failures: list[str] = field(default_factory=list)

    def write(self, conversations: Sequence[Conversation]) -> _Texts:
        texts = _Texts([self.chat.as_shown(one) for one in conversations], [], [])
        for number, conversation in enumerate(texts.conversations):
            learned = _learned_turns(conversation)
            messages, tools = conversation.messages, conversation.tools
            try:
                structure = self.chat.structures.of_turns(messages, learned, tools)
                self.chat.template.check_tools(conversation)
                rows = [self.chat.row(structure, messages, tools)] if structure.stable else []
                rows = rows or self.chat.row_of_each_turn(conversation)
            except InputError as error:
                self.failures.append(f"{conversation.source}: {error}")
                continue
            texts.rows.extend(rows)
            texts.sources.extend([number] * len(rows))
        return texts

    def encode(self, texts: _Texts) -> list[EncodedRow]:
        return self.chat.encoder.encode(texts.rows)

    def put_together(self, texts: _Texts, ids: Sequence[EncodedRow]) -> RenderedSet:
        found, sources = list[EncodedRow](), list[int]()
        for row, number, one in zip(texts.rows, texts.sources, ids, strict=True):
            parts = [one]
            if one.prompts_inside_a_token:
                apart = [row] if len(row.learned) == 1 else self.chat.row_of_each_turn(texts.conversations[number])
                parts = self.chat.encoder.encode(apart, cut_prompts=True)
            found += parts
            sources += [number] * len(parts)
        return _to_set(found, sources)


def _learned_turns(conversation: Conversation) -> list[int]:
    """The messages that are learned; a greeting that nobody asked for is none."""
    return [
        number
        for number, message in enumerate(conversation.messages)
        if message.role == "assistant" and message.learned and number > 0
    ]


def _find_results(text: str) -> list[tuple[int, int]]:
    """Where the calculator's results stand in what an assistant says."""
    results, place = list[tuple[int, int]](), 0
    for piece, learned in split_results(text):
        if not learned:
            results.append((place, place + len(piece)))
        place += len(piece)
    return results


def _is_inside(place: int, stretches: Sequence[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in stretches)


def _to_set(rows: Sequence[EncodedRow], sources: Sequence[int]) -> RenderedSet:
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    ids = np.fromiter(chain.from_iterable(row.ids for row in rows), dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(row.weights for row in rows), dtype=np.float64)
    learned, weights = as_learned(flat)
    return RenderedSet(ids, learned, starts_of(lengths), lengths, np.array(sources, dtype=np.int32), weights)
