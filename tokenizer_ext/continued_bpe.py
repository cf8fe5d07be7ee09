"""Continued BPE: new merges learned on top of an existing tokenizer, from text that it has cut.

The learner is that of `merge_learning`; its input, pieces of ids, is counted by `piece_counts`; here stands rule R, the
check on its output.

Rule R: the bytes of a new token are no token before it, and encoded alone with all earlier merges they come to exactly
two tokens, its merge. A span of text that no token crosses is encoded as it would be alone, so under R only one pair
can ever form the token, and encoders that look up pairs (Hugging Face), joined bytes (tiktoken) or whole pieces first
give the same ids.

Vocabularies that rely on `ignore_merges` (Llama 3) hold tokens that no merge reaches: found only as whole pieces. They
are continued from their merges alone. A piece that is such a token is one id, before and after, and nothing is learned
from it; in every other piece merges decide, where R holds; and bytes that are any token's are refused, so a whole piece
never finds a new token where the base found an old one. No text gets longer: after the base has done its part, merges
only join.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.byte_characters import visible
from tokenizer_ext.hf_tokenizer import plain_text_encoder
from tokenizer_ext.merge_learning import Merge, learn_merges
from tokenizer_ext.piece_counts import count_pieces

__all__ = ["Merge", "learn_merges", "count_pieces", "assert_reachable"]


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
