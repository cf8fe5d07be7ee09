"""A text that is encoded piece by piece has the ids that it has as a whole, whatever the tokenizer does at a start."""

import pytest

from finetune.rows import text_ids
from tests.real_tokenizers import loaded_tokenizer
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

LINES = (
    "def f(x):\n    return x  # twice\n\n\nclass A:\r\n\tpass\n'''\nIt's 12345 §§§\n\n  indented\n",
    "東京\n!!!\n?\n <|endoftext|>\n\n",
)
TEXT = "".join(LINES) * 40


@pytest.mark.parametrize("family", ["llama2", "llama3_1", pytest.param("qwen3", marks=pytest.mark.long)])
def test_the_ids_of_pieces_are_those_of_the_whole_text(family, monkeypatch):
    monkeypatch.setattr(text_ids, "PIECE_CHARACTERS", 7)
    tokenizer = loaded_tokenizer(family)
    encoder = plain_text_encoder(tokenizer)
    whole = encoder.encode(TEXT, add_special_tokens=False).ids
    assert text_ids.encode_texts([TEXT], tokenizer).tolist() == whole
    assert len(list(text_ids._pieces(TEXT, encoder))) == 1 or family != "llama2"
    end = tokenizer.eos_token_id
    assert text_ids.encode_texts([TEXT, "", TEXT], tokenizer).tolist() == [end, *whole, end, end, *whole, end]
