"""Continued BPE: new merges learned on top of an existing tokenizer, from text that it has cut.

The learner is that of `merge_learning`; here stand its input, pieces of ids counted through the tokenizer's own
pipeline, and rule R, the check on its output.

Rule R: the bytes of a new token are no token before it, and encoded alone with all earlier merges they come to exactly
two tokens, its merge. A span of text that no token crosses is encoded as it would be alone, so under R only one pair
can ever form the token, and encoders that look up pairs (Hugging Face), joined bytes (tiktoken) or whole pieces first
give the same ids.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import regex
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.byte_characters import visible
from tokenizer_ext.hf_tokenizer import plain_text_encoder
from tokenizer_ext.merge_learning import Merge, learn_merges

__all__ = ["Merge", "learn_merges", "count_pieces", "assert_reachable"]


def count_pieces(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Counter[tuple[int, ...]]:
    """How often each pre-token occurs in `texts`, as ids of `tokenizer`.

    Texts are cut at added tokens first, which are no part of any piece, then normalised and cut as the tokenizer does.
    Each distinct piece is encoded once.

    Raises InputError for a tokenizer that is no byte-level BPE.
    """
    encoder = plain_text_encoder(tokenizer)
    added = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
    control = regex.compile("|".join(map(regex.escape, added)) or "(?!)")
    words: Counter[str] = Counter()
    for text in texts:
        for part in control.split(text) if control.search(text) else [text]:
            words.update(_pre_tokens(part, encoder))
    encode = encoder.model.tokenize
    return Counter({tuple([token.id for token in encode(word)]): count for word, count in words.items()})


def assert_reachable(tokenizer: PreTrainedTokenizerFast, merges: Sequence[Merge]) -> None:
    """Assert rule R for `merges`, the newest of `tokenizer`.

    That the bytes are new is checked where merges are appended. The rest is the same as this: the token's bytes, alone,
    come to that token by merges, since only its own pair can make it and the parts of that pair are older than it.
    """
    model = plain_text_encoder(tokenizer).model
    model.ignore_merges = False  # else any token is found as a whole piece, by merges or not
    for merge in merges:
        ids = [token.id for token in model.tokenize(visible(merge.token_bytes))]
        assert ids == [merge.token], f"{merge} is not reached: its bytes alone become {ids}"


def _pre_tokens(text: str, encoder: Tokenizer) -> list[str]:
    if encoder.normalizer:
        text = encoder.normalizer.normalize_str(text)
    return [word for word, _ in encoder.pre_tokenizer.pre_tokenize_str(text)]
