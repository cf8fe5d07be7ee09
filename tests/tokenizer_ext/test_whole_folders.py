"""Extended and trimmed models and deltas are complete or absent, wherever their writer is killed."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from configs import InputError
from configs.whole_folder import check_new_folder
from tests.killed_writes import assert_complete_or_absent
from tests.tokenizer_ext.extension.test_certificate import gpt2
from tokenizer_ext.extension.delta import save_delta
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.trimming.trimmed_model import trim_vocabulary


@pytest.mark.long
def test_an_extended_model(tmp_path: Path, small_tokenizer: PreTrainedTokenizerFast):
    extended = extend_vocabulary((gpt2(), small_tokenizer), control_tokens=["<|user|>"])  # no plot, which takes long
    assert_complete_or_absent(extended.save, tmp_path / "extended")


@pytest.mark.long
def test_a_delta(tmp_path: Path, prose: str, small_tokenizer: PreTrainedTokenizerFast):
    extended = extend_vocabulary((gpt2(), small_tokenizer), corpus=prose.split("\n\n"), new_tokens=5)
    model, tokenizer, first = extended.model, extended.tokenizer, extended.first_new_id
    assert_complete_or_absent(lambda folder: save_delta(model, tokenizer, first, folder), tmp_path / "delta")


@pytest.mark.long
def test_a_trimmed_model(tmp_path: Path, prose: str, small_tokenizer: PreTrainedTokenizerFast):
    trimmed = trim_vocabulary(gpt2(), small_tokenizer, [prose[:500]])
    assert_complete_or_absent(trimmed.save, tmp_path / "trimmed")


def test_a_folder_that_cannot_be_replaced_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"output_dir \.: cannot be replaced .*: name a new folder inside it"):
        check_new_folder(".")
    check_new_folder("inside")
