"""The ids of texts, made some at a time, so that it is seen how far that is and how long it will take."""

import re
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from scratch_models.corpus.kept_ids import in_batches
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.pages.progress import progress

CHARACTERS_AT_ONCE = 2**18
PIECE_CHARACTERS = 2**14
LINE_START = re.compile(r"\n(?=\S)")


def encode_texts(documents: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """The ids of all documents, (N), each between two ends of text where there are several."""
    encoder, end = plain_text_encoder(tokenizer), tokenizer.eos_token_id
    ends = [] if len(documents) == 1 or end is None else [end]
    ids = array("i", ends)
    with progress("encoding the text", sum(map(len, documents)), "characters") as bar:
        pieces = (piece for text in documents for piece in _pieces(text, encoder))
        for some in in_batches(pieces, lambda piece: len(piece[0]), CHARACTERS_AT_ONCE):
            encodings = encoder.encode_batch_fast([piece for piece, _ in some], add_special_tokens=False)
            for (piece, is_last), encoding in zip(some, encodings, strict=True):
                ids.extend(encoding.ids)
                ids.extend(ends if is_last else ())
                bar.update(len(piece))
    return torch.from_numpy(np.array(ids, dtype=np.int32))


def _pieces(text: str, encoder: Tokenizer) -> Iterator[tuple[str, bool]]:
    """A text in pieces that each begin a line, the last marked; whole where each would get a space before it.

    No token of a byte-level BPE reaches over the start of a line that begins with no space.
    """
    start, is_cut = 0, len(text) > PIECE_CHARACTERS and _may_be_cut(encoder)
    while True:
        line = LINE_START.search(text, start + PIECE_CHARACTERS) if is_cut else None
        end = len(text) if line is None else line.end()
        yield text[start:end], end == len(text)
        if end == len(text):
            return
        start = end


def _may_be_cut(encoder: Tokenizer) -> bool:
    joined, before, behind = (encoder.encode(text, add_special_tokens=False).ids for text in ("x\ny", "x\n", "y"))
    return joined == [*before, *behind]
