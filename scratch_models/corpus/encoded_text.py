"""Text as ids: what a scratch run reads, and how it is made of documents and a vocabulary."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from scratch_models.corpus.stored_ids import StoredIds
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class TrainingText:
    """A corpus as ids."""

    vocabulary: Vocabulary
    training_ids: Tensor | StoredIds
    """(N) ids to learn from."""
    held_out_ids: Tensor
    """(M) ids to measure on."""
    held_out_bytes: int
    """UTF-8 bytes of the held-out text after its first token, which no model predicts; ends of text count as none."""
    sha256: str
    """Hash of the text; of the embedded corpus, of what may be learned from."""
    documents: Mapping[str, Any] = field(default_factory=dict)
    """Of a corpus that was read as a stream: how many documents were read and kept, and what each filter dropped."""


def learn_bpe(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a byte-level BPE learned from the texts, with an end of text."""
    bpe = train_bpe(texts, vocabulary_size, special_tokens=[END_OF_TEXT])
    return to_hf_tokenizer(bpe.ranks, bpe.special_tokens, end_of_text=END_OF_TEXT)


def encode_texts(vocabulary: Vocabulary, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of each text, nothing added to them."""
    if isinstance(vocabulary, CharacterVocabulary | ByteVocabulary):
        return [vocabulary.encode_array(text) for text in texts]
    if not texts:
        return []
    # Not verbose: a document may be longer than the positions of the model that the tokenizer came with.
    encoded = vocabulary(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return [np.array(ids, dtype=np.int64) for ids in encoded]


def end_of_text(vocabulary: Vocabulary) -> np.ndarray:
    """The id with which a document ends where there are several: (1), or (0) where characters or bytes have none."""
    if isinstance(vocabulary, CharacterVocabulary | ByteVocabulary):
        return np.zeros(0, dtype=np.int64)
    return np.array([vocabulary.eos_token_id])


def first_token_bytes(vocabulary: Vocabulary, id_: int) -> int:
    """The UTF-8 bytes that a token stands for, whether or not they are a character."""
    if isinstance(vocabulary, ByteVocabulary):
        return 1
    if isinstance(vocabulary, CharacterVocabulary):
        return len(vocabulary.decode([id_]).encode())
    if id_ in vocabulary.all_special_ids:  # an end of text counts as no byte
        return 0
    return len(vocabulary.convert_ids_to_tokens(id_))  # byte-level: one visible character for each byte
