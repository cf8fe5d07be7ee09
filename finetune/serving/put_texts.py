"""A text put behind messages to a served model: in its chat template, as plain text, or raw."""

from collections.abc import Sequence
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.messages import Conversation, Message
from finetune.replies.calculator_decoding import ReplyCalculator
from finetune.replies.prompts import PLAIN_PROMPTS, PromptFormat
from finetune.serving.served_model import ServedModel
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

AUTO, CHAT, RAW, QUESTION = "auto", "chat", "raw", "question"
"""`auto` is the chat template where there is one, else a question; beside them stand the names of plain prompts."""


@dataclass(frozen=True)
class PutText:
    """A prompt and the text behind it as one model reads them."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    said: str
    """In which prompt format it was put, in words."""
    given: frozenset[int] = frozenset()
    """Places of ids that the model does not say itself, such as a calculator's."""
    stop_ids: tuple[int, ...] = ()
    """What would end it."""
    calculator: ReplyCalculator | None = None


def put_text(model: ServedModel, messages: Sequence[Message], text: str, prompt_format: str) -> PutText:
    """The ids of the text as the assistant's reply to the messages; of a text alone where there are none.

    Args:
        model: Who reads it.
        messages: What was said before; may be none for `auto` and `raw`.
        text: What follows.
        prompt_format: `auto`, `chat`, `raw`, or a name of `PLAIN_PROMPTS`.

    Raises:
        InputError: it cannot be put in this format.

    """
    asked = [message for message in messages if message.content.strip()]
    if not text:
        raise InputError("text: is empty, expected at least one character")
    if not asked and prompt_format not in (AUTO, RAW):
        raise InputError("prompt: is empty, expected a question: or choose raw text, which needs none")
    if not asked or prompt_format == RAW:
        encoder = plain_text_encoder(model.side.tokenizer)
        prompt = "\n\n".join(message.content for message in asked)
        before, ids = (tuple(encoder.encode(part, add_special_tokens=False).ids) for part in (prompt, text))
        return PutText(before, ids, "raw text", stop_ids=_end_of_text(model))
    found, said = _format_of(model, prompt_format)
    known = found.known_reply(Conversation((*asked, Message("assistant", text)), "text"))
    given = frozenset(place for place, own in enumerate(known.own) if not own)
    prompt_ids = tuple(found.prompt_ids(asked))
    return PutText(prompt_ids, tuple(known.ids), said, given, found.stop_ids, found.calculator)


def _format_of(model: ServedModel, prompt_format: str) -> tuple[PromptFormat, str]:
    if prompt_format == AUTO:
        prompt_format = CHAT if model.side.knows_chat else QUESTION
    if prompt_format == CHAT:
        return model.in_chat, model.side.chat_format
    if prompt_format not in PLAIN_PROMPTS:
        expected = ", ".join((AUTO, CHAT, RAW, *PLAIN_PROMPTS))
        raise InputError(f"format: found {ascii(prompt_format)[:40]}, expected one of {expected}")
    plain = model.side.in_plain_text(PLAIN_PROMPTS[prompt_format], calculator=model.calculator)
    return plain.prompt_format, f"plain text, {prompt_format}"


def _end_of_text(model: ServedModel) -> tuple[int, ...]:
    end = model.side.tokenizer.eos_token_id
    return () if end is None else (end,)
