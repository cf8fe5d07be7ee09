"""Text that must keep its ids: the pairs that no merge may join.

A merge fires in a text only where its pair stands side by side. The first merge to fire in a text that the base has
encoded would join two of the base's ids, neighbours in one of its pieces; where all such pairs are refused, none fires
first, so none fires at all. The promise covers the protected texts, and any other whose pieces all occur in them.
"""

from collections.abc import Iterable
from itertools import pairwise

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.merge_learning import Pair
from tokenizer_ext.piece_counts import count_pieces


def adjacent_pairs(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> frozenset[Pair]:
    """All pairs of neighbouring ids in the pieces of `texts`: `refused_pairs` for learning what leaves them alone.

    Raises InputError for a tokenizer that is no byte-level BPE.
    """
    return frozenset(pair for piece in count_pieces(texts, tokenizer) for pair in pairwise(piece))
