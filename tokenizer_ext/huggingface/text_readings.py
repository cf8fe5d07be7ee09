"""The ways in which a tokenizer reads documents, and how often each id occurs in them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.pages.progress import tracked

READ_AT_ONCE = 100
"""Documents; more are no faster, and make progress come in jumps."""

Reading = Callable[[list[str]], list[list[int]]]
"""Documents to the ids of each."""


def count_uses(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> Counter[int]:
    """How often each id occurs in the documents: read as plain text, or with added tokens cut out, if that is more."""
    uses = Counter[int]()
    for encode in readings(tokenizer):
        read = tracked(encoded(encode, documents), "counting tokens", "documents", len(documents))
        uses |= Counter(id_ for ids in read for id_ in ids)
    return uses


def readings(tokenizer: PreTrainedTokenizerFast) -> list[Reading]:
    """The two ways to read text: as plain text, and as the tokenizer does by itself, with what it adds."""

    def reading(encoder: Tokenizer) -> Reading:
        return lambda texts: [encoding.ids for encoding in encoder.encode_batch_fast(texts)]

    ids_only = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    return [reading(plain_text_encoder(tokenizer)), lambda texts: tokenizer(texts, **ids_only)["input_ids"]]


def encoded(encode: Reading, documents: Sequence[str]) -> Iterator[list[int]]:
    """The ids of each document, read some at a time."""
    waiting = iter(documents)
    while some := list(islice(waiting, READ_AT_ONCE)):
        yield from encode(some)
