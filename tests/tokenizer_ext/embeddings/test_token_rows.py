"""An id without a row is refused by name before anything reads it, unless no text can become it."""

import json
import os
import subprocess
import sys

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tests.house.repository import ROOT
from tests.real_tokenizers import loaded_tokenizer, real_model
from tests.tokenizer_ext.families import family_tokenizer
from tests.tokenizer_ext.tiny_models import tiny_gpt2
from tokenizer_ext.embeddings.token_rows import check_rows
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id


def _gpt2_with(prose, tokens: list[AddedToken]) -> PreTrainedTokenizerFast:
    tokenizer = family_tokenizer("gpt2", [prose])
    tokenizer.add_tokens(tokens)
    return tokenizer


@pytest.mark.parametrize("lacking", [1, 4])
def test_control_tokens_may_lack_a_row_until_something_follows_them(prose, lacking):
    tokenizer = _gpt2_with(prose, [AddedToken(f"<|reserved_{n}|>", special=True) for n in range(lacking)])
    ids = next_token_id(tokenizer)
    model = tiny_gpt2(ids - lacking)
    check_rows(model, tokenizer)
    expected = f"found ids up to {ids - 1}, but {ids - lacking} rows in the table of GPT2LMHeadModel, so {lacking} from"
    with pytest.raises(InputError, match=expected):
        check_rows(model, tokenizer, new_ids=10)
    with pytest.raises(InputError, match=f"{ids - lacking} rows .* ids up to {ids - 1}"):
        extend_vocabulary((model, tokenizer), corpus=[prose], new_tokens=10)


def test_a_token_that_text_becomes_may_not_lack_a_row(prose):
    tokenizer = _gpt2_with(prose, [AddedToken("   \n", special=False)])
    with pytest.raises(InputError, match=r"so 1 from \d+ \('   \\n'\) on lack one.*text can become such an id"):
        check_rows(tiny_gpt2(next_token_id(tokenizer) - 1), tokenizer)


@pytest.mark.long
def test_gemma_3_1b_which_has_no_row_for_its_image_token_can_be_tuned_as_it_is(tmp_path):
    model = load_model(str(real_model("gemma3", tmp_path, rows=262_144)))
    check_rows(model, loaded_tokenizer("gemma3"))
    with pytest.raises(InputError, match=r"ids up to 262144, but 262144 rows .* \('<image_soft_token>'\)"):
        check_rows(model, loaded_tokenizer("gemma3"), new_ids=4)


@pytest.mark.long
@pytest.mark.parametrize(
    "command", [["tokenizer_ext.audit", "--model"], ["finetune.sft", "--data", "chats.jsonl", "--base"]]
)
def test_an_entry_refuses_it_in_one_line_and_writes_nothing(command, prose, tmp_path):
    tokenizer = _gpt2_with(prose, [AddedToken("   \n", special=False)])
    tokenizer.save_pretrained(tmp_path / "base")
    tiny_gpt2(next_token_id(tokenizer) - 1).save_pretrained(tmp_path / "base")
    chats = [json.dumps({"prompt": f"What is {n}?", "completion": "A number."}) for n in range(30)]
    (tmp_path / "chats.jsonl").write_text("\n".join(chats))
    program = [sys.executable, "-m", *command, "base"]
    ended = subprocess.run(
        program, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.splitlines()[-1]
    ids = next_token_id(tokenizer)
    assert f"ids up to {ids - 1}" in last and f"{ids - 1} rows" in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "chats.jsonl"]
