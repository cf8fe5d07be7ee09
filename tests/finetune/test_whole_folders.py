"""What tuning leaves is complete or absent, wherever its writer is killed."""

from pathlib import Path

import pytest

from finetune.export.final_folder import save_assistant
from finetune.rows.extended_base import ExtendedBase
from finetune.rows.report import save_trained
from tests.finetune.tiny_models import tiny_gpt2
from tests.finetune.trained_runs import base_tokenizer, tuned
from tests.killed_writes import assert_complete_or_absent
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id


@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_assistant_of_a_run(tmp_path: Path, method: str):
    trainable = tuned(new_tokens=9 if method == "lora" else None)
    model, adapted = trainable.model, trainable.adapted if method == "lora" else None
    if adapted is None and trainable.adapted is not None:
        model = trainable.adapted.merge_and_unload()
    assert_complete_or_absent(
        lambda final: save_assistant(model, adapted, trainable.tokenizer, final),
        tmp_path / "final",
        replaces=True,
    )


@pytest.mark.long
def test_a_model_with_trained_rows(tmp_path: Path):
    tokenizer = base_tokenizer()
    model = tiny_gpt2(next_token_id(tokenizer))
    extended = extend_vocabulary((model, tokenizer), control_tokens=["<|user|>"])
    base = ExtendedBase("base", extended.tokenizer, extended.first_new_id, extended.certificate)
    assert_complete_or_absent(
        lambda final: save_trained(model, base, extended.certificate, final), tmp_path / "final", replaces=True
    )
