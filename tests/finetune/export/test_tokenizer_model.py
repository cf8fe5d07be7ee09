"""SentencePiece's own file of a base comes along into what is trained on it and merged."""

import pytest

from finetune.export.final_folder import save_assistant
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import load_start
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import make_trainable_model
from tests.finetune.trained_runs import DOCUMENTS
from tests.tokenizer_ext.spm_families import write_spm_family
from tests.tokenizer_ext.tiny_models import tiny_tied_llama
from tokenizer_ext.encoders.spm_model import read_pieces
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id


@pytest.fixture
def base(tmp_path):
    """A tiny Llama with tokenizer.json and tokenizer.model."""
    folder = write_spm_family("llama 2", tmp_path / "base", "\n\n".join(DOCUMENTS), size=400)
    tiny_tied_llama(next_token_id(load_tokenizer(str(folder)))).save_pretrained(folder)
    return folder


def _train(base, tmp_path, chat):
    trained = make_trainable_model(
        *load_start(base), [], new_tokens=0, lora=Lora(rank=2, alpha=4.0, dropout=0.0), chat=chat
    )
    save_assistant(trained.model, trained.adapted, trained.tokenizer, tmp_path / "final", trained.extended)
    return trained.tokenizer


@pytest.mark.parametrize("chat", ["graft", "auto"])
def test_the_file_comes_along_into_the_folder_of_a_run_and_into_what_is_merged(base, tmp_path, chat):
    tokenizer = _train(base, tmp_path, chat)
    merge_with_receipt(tmp_path / "final", tmp_path / "merged")
    content = (tmp_path / "merged" / "tokenizer.model").read_bytes()
    assert content.startswith((base / "tokenizer.model").read_bytes())
    texts = [piece.text for piece in read_pieces(content)]
    assert texts == tokenizer.convert_ids_to_tokens(list(range(next_token_id(tokenizer))))


@pytest.mark.parametrize("found", ["of another model", "no such file"])
def test_a_file_that_is_not_the_tokenizers_stays_behind_and_that_is_said(base, tmp_path, capsys, found):
    file = base / "tokenizer.model"
    other = write_spm_family("llama 2", tmp_path / "other", "\n\n".join(DOCUMENTS), size=390) / "tokenizer.model"
    file.write_bytes(other.read_bytes() if found == "of another model" else b"\x08\x01nothing of the kind")
    _train(base, tmp_path, "auto")
    assert f"tokenizer.model stays behind: {file}: " in capsys.readouterr().out
    assert not list((tmp_path / "final").rglob("tokenizer.model"))
