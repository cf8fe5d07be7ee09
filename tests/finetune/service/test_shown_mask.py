"""A conversation's mask is that of the run that would learn it; a tokenizer is read without a weight."""

import json
import shutil

import pytest

from configs import InputError
from finetune.service.own_tokenizers import own_tokenizer
from finetune.service.shown_mask import mask_as_parts, read_conversation
from tests.finetune.tiny_models import save_tiny_base
from tests.real_tokenizers import real_tokenizer

CHAT = [{"role": "user", "content": "<1+1>?"}, {"role": "assistant", "content": "It is 2."}]


def test_a_tokenizer_is_found_where_no_weight_is(tmp_path):
    save_tiny_base(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"no weights")
    first = own_tokenizer(str(tmp_path / "base"))
    assert first.decode(first.encode("It is red.")) == "It is red."
    assert own_tokenizer(str(tmp_path / "base")) is first


def test_a_tokenizer_that_was_replaced_is_read_anew(tmp_path):
    base = save_tiny_base(tmp_path / "base")
    first = own_tokenizer(str(base))
    shutil.copy(base / "tokenizer.json", tmp_path / "copy.json")
    (tmp_path / "copy.json").rename(base / "tokenizer.json")
    assert own_tokenizer(str(base)) is not first


def test_a_base_without_a_template_is_shown_in_the_format_that_it_would_learn(tmp_path):
    shown = "".join(mask_as_parts(str(save_tiny_base(tmp_path / "base")), json.dumps(CHAT)))
    assert "A tuning adds &lt;|system|&gt;" in shown
    assert "&lt;</span>" in shown and "<</span>" not in shown
    assert 'class="learned control"' in shown and "learned ends" in shown


def test_the_mask_is_in_the_models_own_template(tmp_path):
    shown = "".join(mask_as_parts(str(real_tokenizer("qwen3", tmp_path / "qwen")), json.dumps({"messages": CHAT})))
    assert "own template" in shown and "&lt;|im_start|&gt;" in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" ", "conversation: is empty"),
        ("{", "conversation: not JSON"),
        ("3", "conversation: found a number"),
        ("[3]", "conversation: "),
        ("x" * 20_001, "expected at most 20,000"),
        ('[{"role": "pilot", "content": ""}]', "pilot"),
    ],
)
def test_what_is_no_conversation_is_refused_in_words(text: str, said: str):
    with pytest.raises(InputError, match=said):
        read_conversation(text)
