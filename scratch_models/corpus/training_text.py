"""The corpus of a scratch run by its name: read into memory as one text, or as a stream of documents."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs import InputError
from scratch_models.corpus.blocks import split_by_position
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.corpus.encoded_text import TrainingText, encode_texts, end_of_text, first_token_bytes, learn_bpe
from scratch_models.corpus.named_tokenizer import vocabulary_source
from scratch_models.corpus.streamed_text import stream_training_text
from scratch_models.corpus.text_files import read_text, tiny_shakespeare
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from scratch_models.documents.compressed import COMPRESSIONS
from scratch_models.documents.reading import is_one_text
from tokenizer_ext.pages.progress import shown

MOST_BYTES_IN_MEMORY = 64 * 2**20


@shown("reading the text")
def read_training_text(data: str, tokens: str, vocabulary_size: int, filters: Sequence[str] = ()) -> TrainingText:
    """The corpus named by `data`: `embedded`, `tinyshakespeare`, a file, or a folder of files.

    A text file of moderate size is read into memory; what is larger, holds several documents, is packed, or is to be
    filtered is read as a stream, and its ids are kept in the cache. The vocabulary comes from the training part alone,
    except that characters are those of the whole text, and that `tokens` may name a tokenizer that is there already.

    Raises:
        InputError: the text or tokenizer cannot be had or read, or the text does not support so large a vocabulary.

    """
    if data == "embedded":
        corpus = embedded_corpus()
        training = [document.text for document in corpus.base]
        held_out = [document.text for document in corpus.base_held_out]
        sha256 = corpus.sha256("base")
    elif data != "tinyshakespeare" and (filters or _is_for_a_stream(Path(data).expanduser())):
        return stream_training_text(data, tokens, vocabulary_size, filters)
    else:
        text = tiny_shakespeare() if data == "tinyshakespeare" else read_text(data)
        training, held_out = ([part] for part in split_by_position(text))
        sha256 = hashlib.sha256(text.encode()).hexdigest()
    source = vocabulary_source(tokens)
    vocabulary: Vocabulary
    if source in ("characters", "bytes"):
        training, held_out = ["\n\n".join(training)], ["\n\n".join(held_out)]
        is_of_bytes = source == "bytes"
        vocabulary = ByteVocabulary() if is_of_bytes else CharacterVocabulary.from_text(training[0] + held_out[0])
    else:
        vocabulary = learn_bpe(training, vocabulary_size) if isinstance(source, str) else source
    return _encode(vocabulary, training, held_out, sha256)


def _is_for_a_stream(path: Path) -> bool:
    if not path.is_file():
        return path.is_dir()
    is_packed = path.suffix.lower() in COMPRESSIONS
    return is_packed or not is_one_text([path]) or path.stat().st_size > MOST_BYTES_IN_MEMORY


def _encode(vocabulary: Vocabulary, training: Sequence[str], held_out: Sequence[str], sha256: str) -> TrainingText:
    held_out_ids = _ids(vocabulary, held_out)
    if not len(held_out_ids):
        raise InputError("the corpus is too short to hold out a tenth of it: pass a longer text")
    held_out_bytes = sum(len(text.encode()) for text in held_out) - first_token_bytes(vocabulary, int(held_out_ids[0]))
    return TrainingText(vocabulary, _ids(vocabulary, training), held_out_ids, held_out_bytes, sha256)


def _ids(vocabulary: Vocabulary, documents: Sequence[str]) -> Tensor:
    ids = encode_texts(vocabulary, documents)
    if len(ids) > 1:  # a document ends with the token that tells the model to start afresh; a single text needs none
        ids = [part for document in ids for part in (document, end_of_text(vocabulary))]
    return torch.from_numpy(np.concatenate(ids).astype(np.int32))
