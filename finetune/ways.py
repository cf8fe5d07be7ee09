"""The ways to put a conversation to a model: an assistant in its chat format, a base in plain text."""

from collections.abc import Sequence
from typing import Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat import ChatFormat
from finetune.conversations import Conversation, Message
from finetune.plain_prompts import PlainPrompt
from tokenizer_ext.hf_tokenizer import plain_text_encoder


class Way(Protocol):
    """One way to put a conversation to a model."""

    stop_ids: tuple[int, ...]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the model replies."""

    def reply_ids(self, reply: str) -> list[int]:
        """The ids of a known reply after the prompt, without an end."""

    def text(self, ids: Sequence[int]) -> str:
        """The reply that generated ids spell."""


class ChatWay:
    """The assistant's own format."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.chat = ChatFormat(tokenizer)
        self.stop_ids: tuple[int, ...] = (self.chat.end_id,)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The conversation so far in control tokens."""
        return self.chat.render_prompt(messages)

    def reply_ids(self, reply: str) -> list[int]:
        """The content of a turn, without the control tokens around it."""
        return self.chat.render(Conversation((Message("assistant", reply),), source="reply")).input_ids[1:-1]

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the end of the turn."""
        return self.chat.decode_reply(list(ids)).strip()


class PlainWay:
    """Plain text, for a model that knows no format; it stops by itself only with an end of text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompt: PlainPrompt) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        self.encoder = plain_text_encoder(tokenizer)
        self.stop_ids: tuple[int, ...] = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt as text."""
        ids: list[int] = self.encoder.encode(self.prompt.text(messages), add_special_tokens=False).ids
        return ids

    def reply_ids(self, reply: str) -> list[int]:
        """The reply as it would follow the prompt."""
        ids: list[int] = self.encoder.encode(self.prompt.continuation(reply), add_special_tokens=False).ids
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the next turn."""
        return self.prompt.cut(str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)))


def fits(model: PreTrainedModel, way: Way, conversation: Conversation) -> bool:
    """Whether there is a question, and it fits the model's positions with the known reply and one more token."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    asked = conversation.messages[:-1]
    if not any(message.content for message in asked):
        return False
    tokens = len(way.prompt_ids(asked)) + len(way.reply_ids(conversation.messages[-1].content))
    return positions is None or tokens + 1 <= positions
