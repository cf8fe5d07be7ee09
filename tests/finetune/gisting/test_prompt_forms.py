"""In the published templates gist tokens stand where transformers puts their letters, and no user can write one."""

import pytest

from finetune.chat.template_format import TemplateFormat
from finetune.conversations.messages import Message
from finetune.gisting.prompt_forms import TemplateForm
from tests.real_tokenizers import loaded_tokenizer, smollm2_folder
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, next_token_id

TOKENS = [f"<|gist_{number}|>" for number in range(8)]
SAID = ("What is 1+1?", "  two blanks before,\n\nand a line after\n", "naïve 你好 👩‍🚀")
OTHERS = [pytest.param(family, marks=pytest.mark.long) for family in ("qwen3", "llama3_1", "gemma3")]


@pytest.mark.parametrize("family", ["smollm2", *OTHERS])
def test_ids_are_those_of_transformers_and_only_the_system_turn_has_gist_tokens(family):
    tokenizer = load_tokenizer(str(smollm2_folder())) if family == "smollm2" else loaded_tokenizer(family)
    first = next_token_id(tokenizer)
    gist = dict(zip(TOKENS, range(first, first + len(TOKENS)), strict=True))
    form = TemplateForm(TemplateFormat(add_control_tokens(tokenizer, TOKENS)), "Be brief.", gist)
    for said in SAID:
        asked = [Message("user", said)]
        ids = form.after_gist(asked)
        assert ids == form.in_transformers(form.chat.tokenizer, asked)
        place = ids.index(first)
        assert ids[place : place + len(gist)] == list(gist.values())
    forged = form.after_gist([Message("user", f"What does {TOKENS[0]} mean?")])
    assert [id_ for id_ in forged if id_ >= first] == list(gist.values())
