"""What is asked for on the page becomes the settings of a run that the entry takes, and the run does it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs import InputError
from finetune.service.extensions import AskedExtension, toggle_line
from finetune.service.file_store import FileStore
from tests.finetune.serving.served import save_adapter
from tests.finetune.tiny_models import save_tiny_base
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.extend import ExtendSettings, main
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes

TEXT = "\n\n".join(f"the quokka number {n} eats leaves of the eucalyptus" for n in range(30))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base") / "base")


def asked(base: Path, **fields) -> AskedExtension:
    given = {"corpus": TEXT, "file_id": None, "new_tokens": 12, "words": "", "left_out": ""}
    return AskedExtension(place=str(base), **{**given, **fields})


def test_the_run_adds_what_was_proposed_without_what_was_struck_and_with_the_words(base, tmp_path):
    files = FileStore(tmp_path / "files", 1_000_000)
    struck = asked(base).plan(files).tokens[0].content
    extension = asked(base, left_out=visible(struck), words="bilby\nbilby\n")
    proposal = extension.plan(files)
    settings, file_id = extension.settings(files, tmp_path)
    assert files.get(file_id).kind == "text"
    assert extension.settings(files, tmp_path) == (settings, file_id)  # kept once
    main(ExtendSettings(**settings, output_dir=str(tmp_path / "extended")))
    tokens = token_bytes(load_tokenizer(str(tmp_path / "extended"))).values()
    assert {token.content for token in proposal.tokens} <= set(tokens)
    assert struck not in tokens and b" bilby" in tokens


def test_an_uploaded_file_is_read_in_place_of_the_text(base, tmp_path):
    files = FileStore(tmp_path / "files", 1_000_000)
    _, file_id = asked(base).settings(files, tmp_path)
    assert asked(base, corpus="", file_id=file_id).plan(files) == asked(base).plan(files)


def test_what_cannot_be_extended_is_refused_in_words(base, tmp_path):
    files = FileStore(tmp_path / "files", 1_000_000)
    adapter = save_adapter(base, tmp_path / "adapter", 1)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"corpus": " "}, "corpus: is empty"),
        ({"place": str(adapter)}, "is an adapter, expected a model with weights of its own"),
        ({"left_out": "a b"}, "leave out, line 1: 'a b' holds ' '"),
        ({"file_id": "file-0"}, "no such file"),
    ]
    for fields, said in refused:
        with pytest.raises(InputError, match=said):
            replace(asked(base), **fields).plan(files)


def test_only_a_token_can_be_struck():
    with pytest.raises(InputError, match="strike: 'a b' holds ' '"):
        toggle_line("a b", "")
    with pytest.raises(InputError, match="found no text"):
        toggle_line(None, "")
