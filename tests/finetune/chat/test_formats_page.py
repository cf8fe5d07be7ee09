"""What docs/formats.md says of each example is what the product makes of it."""

import json
import re

import pytest

from configs import InputError
from finetune.chat.chat_format import ChatFormat, mask_as_text
from finetune.chat.graft_format import GraftFormat
from finetune.chat.rendered import RenderedConversation
from finetune.chat.template_format import TemplateFormat
from finetune.conversations.formats import to_conversation
from finetune.conversations.pairs import is_pair, to_pair
from finetune.preference.batches import render_pairs
from tests.house.repository import ROOT
from tests.real_tokenizers import loaded_tokenizer

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json ?(\w*)\n(.*?)```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)


def _learned(chat: ChatFormat, record: str) -> str:
    read = json.loads(record)
    try:
        if is_pair(read):
            pairs = render_pairs(chat, [to_pair(read, "chats.jsonl:1")])
            return f"chosen: {_shown(chat, pairs.chosen[0])}\nrejected: {_shown(chat, pairs.rejected[0])}"
        rendered = chat.render_set([to_conversation(read, "chats.jsonl:1")])
    except InputError as error:
        return f"refused: {error}"
    return "\n---\n".join(_shown(chat, one) for one in rendered)


def _shown(chat: ChatFormat, one: RenderedConversation) -> str:
    return mask_as_text(one, lambda ids: str(chat.tokenizer.decode(ids))).strip("\n")


def test_every_block_of_json_is_an_example():
    assert PAGE.count("```json") == len(EXAMPLES) >= 9


@pytest.mark.parametrize(("template", "record", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_learned_as_the_page_shows(chat_tokenizer, template, record, shown):
    chat = TemplateFormat(loaded_tokenizer(template.lower())) if template else GraftFormat(chat_tokenizer)
    assert _learned(chat, record) == shown
