"""Rows read from their place in a file against the safetensors library; what is said of files that end too early."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from configs import InputError
from tests.finetune.tiny_models import TINY_MODELS
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.foreign.weight_headers import StoredTensor, read_headers
from tokenizer_ext.held_weights.stored_slices import find_stored, pieces_of, read_rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tensors = {"a": torch.randn(7, 3, 2), "b": torch.randn(5, 4).bfloat16(), "c": torch.randn(9).half()}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_rows_are_those_that_the_library_reads(file: Path):
    with safe_open(file, "pt") as library:
        for name, stored in read_headers([file]).items():
            for first, rows in ((0, stored.shape[0]), (2, 3), (4, 0)):
                expected = library.get_slice(name)[first : first + rows]
                assert torch.equal(read_rows(name, stored, first, rows), expected)


def test_pieces_are_the_tensor(file: Path, monkeypatch):
    monkeypatch.setattr("tokenizer_ext.held_weights.stored_slices.PIECE_BYTES", 20)
    stored = read_headers([file])["b"]
    pieces = list(pieces_of("b", stored, 5))
    assert len(pieces) == 3 and torch.equal(torch.cat(pieces), read_rows("b", stored, 0, 5))


@pytest.mark.parametrize("kind", TINY_MODELS)
def test_the_hash_of_stored_weights_is_that_of_the_model(kind: str, tmp_path: Path):
    model = TINY_MODELS[kind]()
    model.save_pretrained(tmp_path)
    found = find_stored(model, read_headers([tmp_path / "model.safetensors"]), model.base_model_prefix)
    ids = model.get_input_embeddings().num_embeddings - 3
    assert hash_weights(model, ids, lambda name, rows: pieces_of(name, found[name], rows)) == hash_weights(model, ids)


def test_weights_are_found_without_the_name_of_the_model_around_them(file: Path):
    model = TINY_MODELS["gpt2"]()
    bare = {name: torch.Tensor(one) for name, one in model.transformer.named_parameters()}
    save_file({name: one.detach().clone() for name, one in bare.items()}, file)
    found = find_stored(model, read_headers([file]), model.base_model_prefix)
    assert found.keys() == dict(model.named_parameters()).keys()


def test_a_file_that_was_cut_is_refused_by_its_header(file: Path):
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"ends at byte [\d,]+ of [\d,]+"):
        read_headers([file])


def test_a_file_that_is_cut_later_is_refused_when_its_rows_are_read(file: Path):
    stored = read_headers([file])
    last = max(stored.values(), key=lambda one: one.start)
    name = next(name for name, one in stored.items() if one == last)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"ends within {name}, 4 bytes before the end of its rows"):
        read_rows(name, last, 0, last.shape[0])
    assert read_rows(name, last, 0, 1).shape[0] == 1


def test_a_place_that_does_not_hold_the_shape_is_refused(file: Path):
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"shape":[5,4]', b'"shape":[5,3]'))
    with pytest.raises(InputError, match=r"b of \[5, 3\] in BF16 has 40 bytes"):
        read_headers([file])


def test_a_file_that_is_gone_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone.safetensors: a cannot be read \(No such file"):
        read_rows("a", StoredTensor("F32", (2, 2), tmp_path / "gone.safetensors", 8), 0, 1)
