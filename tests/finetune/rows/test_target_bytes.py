"""The bytes that bits per byte are counted on, where a token or a window ends within a character.

A public report of the opposite: karpathy/nanochat issue 693, where a piece of a character counted as three bytes.
"""

from pydoc_data.topics import topics

import pytest
import torch

from finetune.rows.dataset import count_target_bytes
from scratch_models.loop.micro_batches import MicroBatch
from tests.tokenizer_ext.families import family_tokenizer
from tests.tokenizer_ext.tiny_models import tiny_gpt2
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, token_bytes
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

TEXT = "東京都は日本の首都である。東京は大きい都市で、日本の首都です。中华人民共和国的首都是北京。" * 3


@pytest.fixture(scope="module")
def tokenizers():
    """A base that knows no such character, and the base with pieces of them as tokens."""
    base = family_tokenizer("gpt2", [topics["strings"]])
    corpus = [TEXT + " " * n for n in range(9)]
    extended = extend_vocabulary((tiny_gpt2(next_token_id(base)), base), corpus=corpus, new_tokens=60)
    return {"base": base, "extended": extended.tokenizer}


def _is_text(token: bytes) -> bool:
    return token.decode(errors="ignore").encode() == token


@pytest.mark.parametrize("name", ["base", "extended"])
@pytest.mark.parametrize("window", [1, *(pytest.param(one, marks=pytest.mark.long) for one in (2, 5)), 7])
def test_the_bytes_of_all_windows_are_the_bytes_of_the_text(tokenizers, name, window):
    tokenizer = tokenizers[name]
    ids = plain_text_encoder(tokenizer).encode(TEXT).ids
    pieces = token_bytes(tokenizer)
    assert not all(_is_text(pieces[id_]) for id_ in ids)
    windows: list[MicroBatch] = [
        {
            "input_ids": torch.tensor([ids[start : start + window]]),
            "targets": torch.tensor([ids[start : start + window]]),
        }
        for start in range(0, len(ids), window)
    ]
    assert sum(count_target_bytes([one], tokenizer) for one in windows) == len(TEXT.encode())
    assert count_target_bytes(windows, tokenizer) == len(TEXT.encode())


def test_new_tokens_were_learned_that_are_pieces_of_characters(tokenizers):
    base, extended = tokenizers["base"], tokenizers["extended"]
    new = [token for id_, token in token_bytes(extended).items() if id_ >= next_token_id(base)]
    assert any(not _is_text(token) for token in new) and any(_is_text(token) for token in new)
