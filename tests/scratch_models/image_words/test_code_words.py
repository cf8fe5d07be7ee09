"""Codes in writing: an image's words become its tokens and its tokens its codes, and only codes are learned."""

import pytest
import torch

from scratch_models.embedded.default import EMBEDDED_BASE
from scratch_models.image_words.autoencoder import PLACES
from scratch_models.image_words.code_gpt import extend_by_codes
from scratch_models.image_words.code_words import NamedImages, code_tokens, codes_of, prompt_of, words_of
from tokenizer_ext.extension.extension import Extended

CODES = 6


@pytest.fixture(scope="module")
def extended() -> Extended:
    return extend_by_codes(str(EMBEDDED_BASE), CODES, seed=0)


def test_words_are_read_as_the_tokens_of_their_codes_and_tokens_as_the_codes(extended: Extended) -> None:
    codes = [[0, 5, 2, 1], [3, 3, 3, 3]]
    for label, of_image in zip((7, 0), codes, strict=True):
        ids = extended.tokenizer.encode(prompt_of(label) + words_of(of_image))
        assert ids[:-PLACES] == extended.tokenizer.encode(prompt_of(label))
        assert codes_of(ids[-PLACES:], extended.first_new_id, CODES) == of_image
    assert extended.tokenizer.convert_tokens_to_ids(code_tokens(CODES)) == list(
        range(extended.first_new_id, extended.first_new_id + PLACES * CODES)
    )


def test_what_is_no_code_for_each_place_is_no_image() -> None:
    assert codes_of([10, 16, 22, 28], 10, CODES) == [0, 0, 0, 0]
    for ids in ([9, 16, 22, 28], [16, 10, 22, 28], [10, 16, 22, 34], [10, 16, 22], [10, 16, 22, 28, 34]):
        assert codes_of(ids, 10, CODES) is None


def test_only_codes_are_targets_each_after_what_comes_before_it(extended: Extended) -> None:
    labels, codes = torch.tensor([7, 1, 0]), torch.tensor([[0, 5, 2, 1], [1, 1, 1, 1], [2, 0, 2, 0]])
    (batch,) = NamedImages(extended.tokenizer, labels, codes, 8, seed=0).all_rows()
    for row, (label, of_image) in enumerate(zip(labels.tolist(), codes.tolist(), strict=True)):
        ids = extended.tokenizer.encode(prompt_of(label) + words_of(of_image))
        learned = batch["targets"][row] != -100
        assert learned.sum() == PLACES
        assert batch["targets"][row][learned].tolist() == ids[-PLACES:]
        assert batch["input_ids"][row][learned].tolist() == ids[-PLACES - 1 : -1]
