"""The chat format, owned here alone: every turn is its role's control token, its content, and ``<|end|>``.

    <|system|>Be brief.<|end|><|user|>1+1?<|end|><|assistant|>2<|end|>

Ids and loss mask are put together piece by piece from the same parts, so they cannot disagree. Content is always
encoded as plain text: whatever a user writes, a control token comes from the format alone. What an assistant says and
the ``<|end|>`` that closes it are supervised, nothing else is. With the calculator, the results that it gives are not
supervised either; they are encoded as pieces of their own, as when it puts them into a reply. Padding is told by the
attention mask and by the mask of `RenderedConversation`, never by comparing ids: in GPT-2 padding, beginning and end of
text are one id.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.calculator import split_results
from finetune.chat.rendered import RenderedConversation, RenderedSet, as_learned, starts_of
from finetune.chat.rendering import render_in_parts
from finetune.conversations.messages import Conversation, Message, needs
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END_TOKEN = "<|end|>"
CONTROL_TOKENS = (*ROLE_TOKENS.values(), END_TOKEN)

# The same format for `tokenizer.apply_chat_template`, which other tools call. It renders one text and then looks for
# control tokens in it, so unlike `GraftFormat` it lets content forge a turn unless its sanitize_control_tokens is set.
# `{% generation %}` marks what is supervised for other trainers.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('role is ' ~ message['role'] ~ ', expected system, user or assistant') }}{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] ~ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] ~ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class GraftFormat:
    """The chat format in the ids of one tokenizer, which holds the control tokens.

    It carries text of system, user and assistant, and nothing else. With `calculator`, the results of annotations such
    as ``<<48/2=24>>`` in assistant turns are read and not learned.

    Raises:
        InputError: the tokenizer lacks a control token.

    """

    name = "graft"

    def __init__(self, tokenizer: PreTrainedTokenizerFast, calculator: bool = False) -> None:
        ids = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS}
        known = tokenizer.get_added_vocab()
        if missing := [token for token in CONTROL_TOKENS if token not in known]:
            raise InputError(
                f"tokenizer of {len(tokenizer)} tokens: no control token {', '.join(missing)}; "
                "add them with tokenizer_ext.huggingface.hf_tokenizer.add_control_tokens, or use a fine-tuned model's "
                "tokenizer"
            )
        self.tokenizer = tokenizer
        self.calculator = calculator
        self.role_ids: dict[str, int] = {role: ids[token] for role, token in ROLE_TOKENS.items()}
        self.end_id: int = ids[END_TOKEN]
        self.stop_ids: tuple[int, ...] = (self.end_id,)
        self.control_ids = frozenset(tokenizer.added_tokens_decoder)

    @property
    def pad_id(self) -> int:
        """An id to fill rows with; what it is has no effect, see the module."""
        return self.end_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def render(self, conversation: Conversation) -> RenderedConversation:
        """The whole conversation, never cut: a caller with a limit drops what is longer, and counts it."""
        return self.render_set([conversation])[0]

    def render_set(self, conversations: Iterable[Conversation]) -> RenderedSet:
        """`render` of each, as flat arrays.

        Raises:
            InputError: a conversation holds what this format does not carry: tools, or reasoning.

        """
        return RenderedSet.joined(list(self.render_parts(conversations)))

    def render_parts(self, conversations: Iterable[Conversation]) -> Iterator[RenderedSet]:
        """The same some hundred conversations at a time."""
        return render_in_parts(self, conversations, self.stop_ids)

    def render_prompt(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The ids after which the assistant speaks: all of `messages`, then ``<|assistant|>``."""
        said = _as_text(Conversation(tuple(messages), "prompt", tools=tools))
        history = self.put_together([said], self.encode([said]))[0]
        return [*history.input_ids, self.role_ids["assistant"]]

    def render_reply(self, conversation: Conversation) -> RenderedConversation:
        """The ids of the last message without the control tokens around it; a calculator's results are not its own."""
        last = replace(conversation.messages[-1], weight=1.0)
        turn = self.render(replace(conversation, messages=(last,)))
        return RenderedConversation(turn.input_ids[1:-1], turn.supervised[1:-1])

    def decode_reply(self, ids: Sequence[int]) -> str:
        """The text of generated ids up to, not including, the first ``<|end|>``."""
        reply = ids[: ids.index(self.end_id)] if self.end_id in ids else ids
        return self.tokenizer.decode(list(reply), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def decided_by(self) -> dict[str, Any]:
        """The control ids, and whether there is a calculator."""
        return {"control_ids": [self.role_ids, self.end_id], "calculator": self.calculator}

    @cached_property
    def _plain_text(self) -> Tokenizer:
        return plain_text_encoder(self.tokenizer)  # not before something is encoded: it takes a fifth of a second

    def _pieces(self, message: Message) -> list[tuple[str, float]]:
        """What is encoded apart, and how much it counts in the loss."""
        if message.role == "assistant" and self.calculator:
            return [(piece, said * message.weight) for piece, said in split_results(message.content)]
        return [(message.content, _weight(message))]

    def write(self, conversations: Sequence[Conversation]) -> list[tuple[Message, ...]]:
        """What is encoded of each conversation."""
        return [_as_text(conversation) for conversation in conversations]

    def encode(self, texts: Sequence[Sequence[Message]]) -> dict[str, list[int]]:
        """The ids of every piece; one that stands there often, such as a system message, is encoded once."""
        pieces = (piece for messages in texts for message in messages for piece, _ in self._pieces(message))
        distinct = list(dict.fromkeys(pieces))
        encodings = self._plain_text.encode_batch_fast(distinct)
        return {text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)}

    def put_together(self, texts: Sequence[Sequence[Message]], ids: Mapping[str, list[int]]) -> RenderedSet:
        """A row of each conversation, from the ids of its pieces."""
        input_ids: list[int] = []
        stretches: list[tuple[float, int]] = []  # how much so many ids count in the loss
        ends = []
        for messages in texts:
            for message in messages:
                input_ids.append(self.role_ids[message.role])
                stretches.append((0, 1))
                for piece, weight in self._pieces(message):
                    input_ids += ids[piece]
                    stretches.append((weight, len(ids[piece])))
                input_ids.append(self.end_id)
                stretches.append((_weight(message), 1))
            ends.append(len(input_ids))
        of_stretches, counts = np.array(stretches, dtype=np.float64).reshape(-1, 2).T
        lengths = np.diff(np.array([0, *ends], dtype=np.int64))
        supervised, weights = as_learned(of_stretches.repeat(counts.astype(np.int64)))
        flat = np.array(input_ids, dtype=np.int32)
        return RenderedSet(flat, supervised, starts_of(lengths), lengths, weights=weights)


def _weight(message: Message) -> float:
    return message.weight if message.role == "assistant" else 0.0


def _as_text(conversation: Conversation) -> tuple[Message, ...]:
    """The messages, with thoughts that an assistant wrote into its text left there; nothing else beside text."""
    written = replace(conversation, messages=tuple(message.as_written() for message in conversation.messages))
    if found := needs(written):
        raise InputError(
            f"{conversation.source}: holds {', '.join(sorted(found))}, expected text of system, user, assistant: "
            "the project's own chat format carries nothing else; take a base whose chat template does"
        )
    return written.messages
