"""How messages are put to a served model, and a text that follows them: in its chat template, as plain text, or raw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from configs import InputError
from finetune.conversations.messages import Conversation, Message
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat, KnownReply, PlainPromptFormat, PromptFormat
from finetune.serving.served_model import ServedModel
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

Manner = Literal["own", "chat", "plain", "raw"]
MANNERS: dict[Manner, str] = {
    "own": "Each model's own: its chat template, else as a question",
    "chat": "Chat template",
    "plain": "Question: … Answer:",
    "raw": "Raw text, nothing added",
}
"""What each is called."""
QUESTION = PLAIN_PROMPTS["question"]


@dataclass(frozen=True)
class PutPrompt:
    """A prompt as one model reads it, and where its reply ends."""

    ids: tuple[int, ...]
    stop_ids: tuple[int, ...]
    stop_texts: tuple[str, ...]
    said: str
    """In which manner it was put, in words."""


@dataclass(frozen=True)
class PutText:
    """A prompt and the text behind it as one model reads them."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    said: str


def put_prompt(model: ServedModel, messages: Sequence[Message], manner: Manner) -> PutPrompt:
    """The ids after which the model replies.

    Raises:
        InputError: it cannot be asked in this manner.
    """
    if not any(message.content.strip() for message in messages):
        raise InputError("prompt: is empty, expected a question")
    if resolved(model, manner) == "raw":
        ids = plain_text_encoder(model.side.tokenizer).encode(_joined(messages), add_special_tokens=False).ids
        return PutPrompt(tuple(ids), _ends_of_text(model), (), "raw text")
    prompt_format, said = _format_of(model, manner)
    labels = [label for label in QUESTION.labels.values() if label]
    turns = () if isinstance(prompt_format, ChatPromptFormat) else ("\n\n", *(f"\n{label}" for label in labels))
    return PutPrompt(tuple(prompt_format.prompt_ids(messages)), prompt_format.stop_ids, turns, said)


def put_text(model: ServedModel, messages: Sequence[Message], text: str, manner: Manner) -> PutText:
    """The ids of the text as the assistant's reply to the messages; of a text alone where there are none.

    Raises:
        InputError: it cannot be asked in this manner.
    """
    asked = [message for message in messages if message.content.strip()]
    if not text:
        raise InputError("text: is empty, expected at least one character")
    if not asked and manner in ("chat", "plain"):
        raise InputError("prompt: is empty, expected a question: or choose raw text, which needs none")
    if not asked or resolved(model, manner) == "raw":
        encoder = plain_text_encoder(model.side.tokenizer)
        prompt = encoder.encode(_joined(asked), add_special_tokens=False).ids if asked else []
        ids = encoder.encode(text, add_special_tokens=False).ids
        return PutText(tuple(prompt), tuple(ids), "raw text")
    prompt_format, said = _format_of(model, manner)
    known: KnownReply = prompt_format.known_reply(Conversation((*asked, Message("assistant", text)), "text"))
    return PutText(tuple(prompt_format.prompt_ids(asked)), tuple(known.ids), said)


def resolved(model: ServedModel, manner: Manner) -> Manner:
    """The manner that this model is asked in."""
    if manner != "own":
        return manner
    return "chat" if model.side.knows_chat else "plain"


def read_manner(value: object) -> Manner:
    """The manner that a page names.

    >>> read_manner("raw")
    'raw'

    Raises:
        InputError: there is none of this name.
    """
    found = next((manner for manner in get_args(Manner) if manner == value), None)
    if found is None:
        raise InputError(f"manner: found {ascii(value)[:40]}, expected one of {', '.join(MANNERS)}")
    return found


def _format_of(model: ServedModel, manner: Manner) -> tuple[PromptFormat, str]:
    if resolved(model, manner) == "chat":
        return ChatPromptFormat(model.chat_format), model.side.chat_format
    return PlainPromptFormat(model.side.tokenizer, QUESTION), "a question in plain text"


def _ends_of_text(model: ServedModel) -> tuple[int, ...]:
    end = model.side.tokenizer.eos_token_id
    return () if end is None else (end,)


def _joined(messages: Sequence[Message]) -> str:
    return "\n\n".join(message.content for message in messages)
