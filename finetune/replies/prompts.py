"""How a conversation is put to a model: an assistant in its chat format, a base in plain text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.calculator import split_results
from finetune.chat.chat_format import ChatFormat
from finetune.conversations.messages import Conversation, Message, needs
from finetune.replies.calculator_decoding import ReplyCalculator
from tokenizer_ext.huggingface.hf_model import positions_of
from tokenizer_ext.huggingface.plain_text import plain_text_encoder


@dataclass(frozen=True, kw_only=True)
class PlainPrompt:
    """One format to write a conversation as plain text."""

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

    def goes_on(self, generated: str) -> bool:
        r"""Whether a base model went on to another turn: what follows belongs to no reply.

        >>> PLAIN_PROMPTS["question"].goes_on(" 2\n"), PLAIN_PROMPTS["question"].goes_on(" 2\nQuestion: 2+2?")
        (False, True)
        """
        said = f"{generated}."  # one more character is shown as long as the reply goes on
        return self.cut(said).strip() != said.strip()

    def _turn(self, message: Message) -> str:
        label = self.labels[message.role]
        return f"{label}{self.separator}{message.content}" if label else message.content


PLAIN_PROMPTS: Mapping[str, PlainPrompt] = {
    "question": PlainPrompt(labels={"user": "Question:", "assistant": "Answer:"}, between="\n", separator=" "),
    "dialogue": PlainPrompt(labels={"user": "User:", "assistant": "Assistant:"}, between="\n", separator=" "),
    "bare": PlainPrompt(labels={"user": "", "assistant": ""}, between="\n\n", separator=""),
}


@dataclass(frozen=True)
class KnownReply:
    """The ids of a known reply after the prompt, without an end."""

    ids: list[int]
    own: list[bool]
    """Whether the model says the id itself; the calculator gives the others."""
    text_bytes: int
    """Bytes of the text that the model says itself."""


class PromptFormat(Protocol):
    """How a conversation is put to a model, and its reply read."""

    stop_ids: tuple[int, ...]
    calculator: ReplyCalculator | None
    """What completes the arithmetic of a reply, where the model has a calculator."""

    def prompt_ids(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The ids after which the model replies."""

    def known_reply(self, conversation: Conversation) -> KnownReply:
        """The ids of the last message after the prompt, without an end, and what of it the model says itself."""

    def text(self, ids: Sequence[int]) -> str:
        """The reply that generated ids spell."""


class ChatPromptFormat:
    """The chat format of a model: its own template, or the project's format."""

    def __init__(self, chat: ChatFormat) -> None:
        self.chat = chat
        self.calculator = ReplyCalculator(chat.tokenizer) if chat.calculator else None
        self.stop_ids = chat.stop_ids

    def prompt_ids(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The conversation so far, up to where the assistant speaks."""
        return self.chat.render_prompt(messages, tools)

    def known_reply(self, conversation: Conversation) -> KnownReply:
        """The last turn; what the format itself writes in it, and the calculator, is not the model's own."""
        reply, calculator = self.chat.render_reply(conversation), self.calculator is not None
        last = conversation.messages[-1]
        own_bytes = len(last.said().encode()) if last.tool_calls else _own_bytes(last.content, calculator)
        return KnownReply(reply.input_ids, reply.supervised, own_bytes)

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the end of the turn."""
        return self.chat.decode_reply(list(ids)).strip()


class PlainPromptFormat:
    """Plain text, for a model that knows no format; it stops by itself only with an end of text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompt: PlainPrompt, *, calculator: bool = False) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        self.calculator = ReplyCalculator(tokenizer) if calculator else None
        self.encoder = plain_text_encoder(tokenizer)
        self.stop_ids: tuple[int, ...] = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)

    def prompt_ids(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """The prompt as text; tools have no place in it."""
        ids: list[int] = self.encoder.encode(self.prompt.text(messages), add_special_tokens=False).ids
        return ids

    def known_reply(self, conversation: Conversation) -> KnownReply:
        """The reply as it would follow the prompt; without a calculator the model says all of it."""
        reply = conversation.messages[-1].content
        text, ids, own = self.prompt.continuation(reply), list[int](), list[bool]()
        for piece, is_own in split_results(text) if self.calculator else [(text, True)]:
            piece_ids = self.encoder.encode(piece, add_special_tokens=False).ids
            ids += piece_ids
            own += [is_own] * len(piece_ids)
        return KnownReply(ids, own, _own_bytes(reply, self.calculator is not None))

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the next turn."""
        return self.prompt.cut(str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)))


def fits(model: PreTrainedModel, prompt_format: PromptFormat, conversation: Conversation) -> bool:
    """Whether there is a question that the format can put, and it fits the positions with its reply and one token."""
    positions = positions_of(model)
    asked = conversation.messages[:-1]
    if not any(message.content for message in asked):
        return False
    if isinstance(prompt_format, PlainPromptFormat) and needs(conversation) - {"reasoning"}:
        return False  # plain text has no place for tools and their results
    prompt = prompt_format.prompt_ids(asked, conversation.tools)
    tokens = len(prompt) + len(prompt_format.known_reply(conversation).ids)
    return positions is None or tokens + 1 <= positions


def _own_bytes(reply: str, calculator: bool) -> int:
    pieces = split_results(reply) if calculator else [(reply, True)]
    return sum(len(text.encode()) for text, is_own in pieces if is_own)
