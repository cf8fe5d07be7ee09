"""The tokens between which a document stands, and the blocks of a stream of documents taken apart at them.

A document is read from its start on, so its first token is predicted too, and its end is learned. Where a tokenizer
puts no token before a text of its own accord, the end of one document is the start of the next, as GPT-2 was trained.

Shapes: N ids of a stream.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.packing import Row
from scratch_models.loop.micro_batches import IGNORED_TARGET

ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>")
"""What ends a document where a chat model has another end of a turn as its `eos_token` (Qwen, SmolLM2; Llama 3)."""


@dataclass(frozen=True)
class DocumentEnds:
    """What stands before and behind a document."""

    start_id: int
    end_id: int

    @property
    def shared(self) -> bool:
        """Whether one token ends a document and starts the next."""
        return self.start_id == self.end_id

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> "DocumentEnds":
        """Those of a tokenizer.

        Raises:
            InputError: it has no end of a text.

        """
        known = tokenizer.get_added_vocab()
        end_id = next((known[token] for token in ENDS_OF_TEXT if token in known), tokenizer.eos_token_id)
        if end_id is None:
            raise InputError("base: its tokenizer has no end of text (eos_token), expected one to end documents with")
        put_before = tokenizer("a")["input_ids"][0]
        begins = tokenizer.bos_token_id is not None and put_before == tokenizer.bos_token_id
        return cls(tokenizer.bos_token_id if begins else end_id, end_id)

    def rows(self, ids: np.ndarray) -> list[Row]:
        """A window of a stream, (N), as the inputs and targets of each document in it.

        >>> DocumentEnds(0, 0).rows(np.array([7, 8, 0, 5, 6]))
        [([7, 8], [8, 0]), ([0, 5], [5, 6])]
        >>> DocumentEnds(1, 2).rows(np.array([7, 8, 2, 1, 6]))
        [([7, 8, 2], [8, 2, -100]), ([1], [6])]
        """
        inputs, targets = ids[:-1], ids[1:].copy()
        if not self.shared:
            targets[targets == self.start_id] = IGNORED_TARGET
        starts = [0, *(np.flatnonzero(inputs[1:] == self.start_id) + 1).tolist(), len(inputs)]
        return [(inputs[start:end].tolist(), targets[start:end].tolist()) for start, end in pairwise(starts)]
