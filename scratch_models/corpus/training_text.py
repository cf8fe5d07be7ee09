"""The ids that a scratch run learns from, those that it is measured on, and the vocabulary between them and text."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from configs import InputError
from scratch_models.corpus.blocks import split_by_position
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.corpus.text_files import read_text, tiny_shakespeare
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer
from tokenizer_ext.pages.progress import shown

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class TrainingText:
    """A corpus as ids."""

    vocabulary: Vocabulary
    training_ids: Tensor
    """(N) ids to learn from."""
    held_out_ids: Tensor
    """(M) ids to measure on."""
    held_out_bytes: int
    """UTF-8 bytes of the held-out text after its first token, which no model predicts; separators count as none."""
    sha256: str
    """Hash of the text; of the embedded corpus, of what may be learned from."""


@shown("reading the text")
def read_training_text(data: str, tokens: Literal["characters", "bytes", "bpe"], vocabulary_size: int) -> TrainingText:
    """The corpus named by `data`: `embedded`, `tinyshakespeare`, or the path of a text file.

    The vocabulary comes from the training part alone, except that characters are those of the whole text.

    Raises:
        InputError: the text cannot be had or read, or does not support so large a vocabulary.

    """
    if data == "embedded":
        corpus = embedded_corpus()
        training = [document.text for document in corpus.base]
        held_out = [document.text for document in corpus.base_held_out]
        sha256 = corpus.sha256("base")
    else:
        text = tiny_shakespeare() if data == "tinyshakespeare" else read_text(data)
        training, held_out = ([part] for part in split_by_position(text))
        sha256 = hashlib.sha256(text.encode()).hexdigest()
    if tokens == "bpe":
        vocabulary: Vocabulary = _bpe(training, vocabulary_size)
    else:
        training, held_out = ["\n\n".join(training)], ["\n\n".join(held_out)]
        is_of_bytes = tokens == "bytes"
        vocabulary = ByteVocabulary() if is_of_bytes else CharacterVocabulary.from_text(training[0] + held_out[0])
    return _encode(vocabulary, training, held_out, sha256)


def _bpe(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    bpe = train_bpe(texts, vocabulary_size, special_tokens=[END_OF_TEXT])
    return to_hf_tokenizer(bpe.ranks, bpe.special_tokens, end_of_text=END_OF_TEXT)


def _encode(vocabulary: Vocabulary, training: Sequence[str], held_out: Sequence[str], sha256: str) -> TrainingText:
    held_out_ids = _ids(vocabulary, held_out)
    if not len(held_out_ids):
        raise InputError("the corpus is too short to hold out a tenth of it: pass a longer text")
    first: str = vocabulary.decode([int(held_out_ids[0])])
    # A byte alone need be no character, so that its text is not as long as it is.
    first_bytes = 1 if isinstance(vocabulary, ByteVocabulary) else len(first.encode())
    held_out_bytes = sum(len(text.encode()) for text in held_out) - first_bytes
    return TrainingText(vocabulary, _ids(vocabulary, training), held_out_ids, held_out_bytes, sha256)


def _ids(vocabulary: Vocabulary, documents: Sequence[str]) -> Tensor:
    if isinstance(vocabulary, CharacterVocabulary | ByteVocabulary):
        return torch.tensor([id_ for text in documents for id_ in vocabulary.encode(text)], dtype=torch.int32)
    end = vocabulary.convert_tokens_to_ids(END_OF_TEXT)
    encoded = vocabulary(documents, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    # A document ends with the token that tells the model to start afresh; a single text needs none.
    ends = [end] if len(documents) > 1 else []
    return torch.tensor([id_ for ids in encoded for id_ in (*ids, *ends)], dtype=torch.int32)
