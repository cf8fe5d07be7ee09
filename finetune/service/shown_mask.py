"""The loss mask of a conversation that somebody wrote down, in the chat format that a tuning of a model would use."""

from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.chat_format import ChatFormat, describe_format
from finetune.chat.choose_format import choose_format, has_own_template
from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.chat.mask_page import mask_parts
from finetune.conversations.formats import Conversation, to_conversation
from finetune.export.saved_model import find_model
from finetune.service.own_tokenizers import own_tokenizer
from scratch_models.documents.json_values import kind_of, parse_json
from scratch_models.loop.run_folder import find_recorded
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens
from tokenizer_ext.pages.html_page import heading, paragraph

PLACE = "conversation"
MOST_CHARACTERS = 20_000


def mask_as_parts(place: str, text: str) -> list[str]:
    """What of a conversation a tuning of the model at a place learns, as HTML without a page around it.

    Raises:
        InputError: the text is no conversation, or the model has no chat format that it can be put in.
    """
    conversation = read_conversation(text)
    chat, note = chat_format_of(place)
    rows = chat.render_set([conversation])
    parts = [paragraph(f"{describe_format(chat)}."), *([paragraph(note)] if note else [])]
    for number, rendered in enumerate(rows, 1):
        parts += [heading(f"Row {number} of {len(rows)}")] if len(rows) > 1 else []
        parts += mask_parts(rendered, chat)
    return parts


def read_conversation(text: str) -> Conversation:
    """The conversation in a text: a list of messages, or one record of a dataset as `finetune.sft` reads them.

    >>> [message.content for message in read_conversation('{"question": "1+1?", "answer": "2"}').messages]
    ['1+1?', '2']

    Raises:
        InputError: it is neither.
    """
    if not text.strip():
        raise InputError(f'{PLACE}: is empty, expected JSON such as [{{"role": "user", "content": "…"}}]')
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"{PLACE}: has {len(text):,} characters, expected at most {MOST_CHARACTERS:,}")
    value = parse_json(PLACE, text.encode(errors="surrogatepass"))
    if isinstance(value, list):
        value = {"messages": value}
    if not isinstance(value, dict):
        raise InputError(f"{PLACE}: found {kind_of(value)}, expected a list of messages or an object")
    return to_conversation(value, PLACE)


def chat_format_of(place: str) -> tuple[ChatFormat, str]:
    """The chat format of the model at a place, and what a tuning would add to it first; empty where nothing.

    Raises:
        InputError: there is no such model, or its template cannot be used.
    """
    folder, tokenizer, note = find_model(place), own_tokenizer(place), ""
    if not has_own_template(tokenizer):
        tokenizer, note = _with_control_tokens(tokenizer)
    options = find_recorded(folder, "template_options") if has_own_template(tokenizer) else None
    return (
        choose_format(tokenizer, generation_config=_generation_config(folder), template_options=options or {}),
        note,
    )


def _with_control_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[PreTrainedTokenizerFast, str]:
    """The tokenizer with the control tokens of the project's format, as a tuning gives it those that it lacks."""
    known = tokenizer.get_added_vocab()
    lacking = [token for token in CONTROL_TOKENS if token not in known]
    if not lacking:
        return tokenizer, ""
    return add_control_tokens(tokenizer, lacking), f"A tuning adds {', '.join(lacking)} to this vocabulary first."


def _generation_config(folder: Path) -> GenerationConfig | None:
    """Where replies end beside the end of a turn; None where the folder does not say."""
    plain = Path(plain_folder(str(folder)))
    return GenerationConfig.from_pretrained(plain) if (plain / "generation_config.json").is_file() else None
