"""What is counted, on text and tokens, to prove that an extension moved nothing."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.hf_tokenizer import plain_text_encoder
from tokenizer_ext.merge_learning import Merge


def count_moved_ids(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many tokens have another id, or none.

    >>> count_moved_ids({"a": 0, "b": 1}, {"a": 0, "c": 1, "b": 2})
    1
    """
    return sum(after.get(token) != id_ for token, id_ in before.items())


def count_unreachable(tokenizer: PreTrainedTokenizerFast, merges: Sequence[Merge]) -> int:
    """How many new tokens are whole text, yet are not what that text encodes to.

    Tokens that are pieces of a character have no text of their own; rule R of `continued_bpe.py` covers those.
    """
    encoder = plain_text_encoder(tokenizer)
    texts = [(merge, merge.token_bytes.decode(errors="ignore")) for merge in merges]
    whole = [(merge, text) for merge, text in texts if text.encode() == merge.token_bytes]
    return sum(encoder.encode(text).ids != [merge.token] for merge, text in whole)


def token_lengths(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> list[int]:
    """Tokens of each document, read as plain text."""
    return [len(encoding) for encoding in plain_text_encoder(tokenizer).encode_batch(list(documents))]
