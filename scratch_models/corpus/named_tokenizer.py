"""A tokenizer that is there already, such as GPT-2's, as the vocabulary of a corpus."""

import hashlib
from typing import TypeAlias, cast, get_args

from transformers import PreTrainedTokenizerFast

from configs import InputError
from scratch_models.corpus.vocabulary import Tokens
from tokenizer_ext.huggingface.byte_level_backend import other_family
from tokenizer_ext.huggingface.hf_model import load_tokenizer

VocabularySource: TypeAlias = Tokens | PreTrainedTokenizerFast


def vocabulary_source(tokens: str) -> VocabularySource:
    """What ids come from: one of the words for what is made of the text, else the tokenizer of that name.

    >>> vocabulary_source("bytes")
    'bytes'

    Raises:
        InputError: there is no such tokenizer, it cannot write every text, or it has no end of text.

    """
    if tokens in get_args(Tokens):
        return cast(Tokens, tokens)
    tokenizer = load_tokenizer(tokens)
    if family := other_family(tokenizer):
        raise InputError(
            f"tokens: {tokens} is {family}, expected byte-level BPE with all 256 bytes, as GPT-2's, Llama 3's or Qwen's"
        )
    if tokenizer.eos_token_id is None:
        raise InputError(f"tokens: {tokens} has no end of text (eos_token), expected one to stand between documents")
    return tokenizer


def source_key(source: VocabularySource) -> str:
    """What tells a source of ids from every other: the word, or the hash of the tokenizer and its end of text."""
    if isinstance(source, str):
        return source
    return hashlib.sha256(f"{source.eos_token_id} {source.backend_tokenizer.to_str()}".encode()).hexdigest()
