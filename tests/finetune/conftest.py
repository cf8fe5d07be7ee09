"""A small tokenizer with the control tokens of the chat format, for all tests of finetune."""

import pytest
from transformers import PreTrainedTokenizerFast

from finetune.chat.graft_format import CONTROL_TOKENS
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, to_hf_tokenizer

TEXTS = [
    "Question: what is the sum of the numbers? Answer: the sum of the numbers is 72.",
    "<|user|> and <|end|> are written as text, and so is <|endoftext|>; ends and end differ.",
]


@pytest.fixture(scope="session")
def chat_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, a few merges (also of control tokens' letters), the four control tokens; bos = eos = pad as in GPT-2."""
    bpe = train_bpe(TEXTS * 2, 320, special_tokens=["<|endoftext|>"])
    tokenizer = add_control_tokens(to_hf_tokenizer(bpe.ranks, bpe.special_tokens), CONTROL_TOKENS)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
