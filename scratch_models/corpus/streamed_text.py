"""A corpus as ids in files, made document by document, so that it may be larger than memory.

    ids/<key>/training.ids     the ids to learn from, an array without a header
    ids/<key>/held_out.ids     those to measure on
    ids/<key>/facts.json       the type of the ids, the hash of the text, bytes held out, what the filters dropped
    ids/<key>/characters.json  the vocabulary, or tokenizer.json; none for bytes and for a tokenizer that was named

The key is a hash of all that decides the ids: the content of the files, the settings, and the code that reads and
encodes. The files are read up to three times: to filter and measure, to learn a BPE, to encode.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import numpy as np
import tokenizers
import torch
from transformers import PreTrainedTokenizerFast

from configs import InputError
from configs.cache_folder import cache_folder
from configs.file_hash import file_sha256, hash_code
from configs.whole_folder import whole_folder
from scratch_models import documents as documents_folder
from scratch_models.corpus.corpus_parts import Part, Survey, parts_of, survey_corpus
from scratch_models.corpus.encoded_text import TrainingText, encode_texts, end_of_text, first_token_bytes, learn_bpe
from scratch_models.corpus.kept_ids import in_batches, open_or_make
from scratch_models.corpus.named_tokenizer import VocabularySource, source_key, vocabulary_source
from scratch_models.corpus.stored_ids import StoredIds
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from scratch_models.documents.reading import corpus_files
from tokenizer_ext import bpe, huggingface
from tokenizer_ext.pages.progress import tracked

BPE_CHARACTERS = 100_000_000
"""A BPE is learned from so many characters of the training part, from its start."""
SEPARATOR = "\n\n"
"""Between documents where an id is a character or a byte; in a BPE each ends in an end of text."""
DECIDES_IDS = tuple(Path(folder.__path__[0]) for folder in (documents_folder, bpe, huggingface))


def stream_training_text(
    data: str, tokens: str, vocabulary_size: int, filters: Sequence[str] = (), folder: Path | None = None
) -> TrainingText:
    """The ids of a corpus of files, from the cache if they are there, and else put there as they are made.

    Raises:
        InputError: a file, filter or tokenizer cannot be had, nothing is left, or the cache has no room.

    """
    files = corpus_files(data)
    source = vocabulary_source(tokens)
    folder = folder or cache_folder() / "ids"
    entry = folder / entry_key(files, source, vocabulary_size, filters)

    def make() -> None:
        _write(entry, files, survey_corpus(files, filters), source, vocabulary_size)

    return open_or_make(entry, lambda: _open(entry, source), make)


def entry_key(files: Sequence[Path], source: VocabularySource, vocabulary_size: int, filters: Sequence[str]) -> str:
    """The hash of all that decides the ids of a corpus, and how they are kept."""
    decided_by = {
        "files": [(file_sha256(file), file.name.lower().rpartition(".")[2]) for file in files],
        "tokens": source_key(source),
        "vocabulary_size": vocabulary_size if source == "bpe" else None,
        "filters": list(filters),
        "tokenizers": tokenizers.__version__,
        "code": hash_code((Path(__file__).parent, *DECIDES_IDS)),
    }
    return hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()


def _open(entry: Path, source: VocabularySource) -> TrainingText | None:
    """The entry; None where there is none, or where it is not whole and has to be made again."""
    try:
        facts = json.loads((entry / "facts.json").read_bytes())
        dtype = np.dtype(facts["dtype"])
        training = StoredIds(entry / "training.ids", dtype)
        held_out = np.fromfile(entry / "held_out.ids", dtype)
        if [len(training), len(held_out)] != facts["sizes"]:
            return None
        vocabulary: Vocabulary = ByteVocabulary() if isinstance(source, str) else source
        if source == "characters":
            vocabulary = CharacterVocabulary.load(entry / "characters.json")
        elif source == "bpe":
            vocabulary = PreTrainedTokenizerFast.from_pretrained(entry)
    except (OSError, ValueError, KeyError):  # absent, closed to us, or cut short by a full disk or a lost machine
        return None
    with suppress(OSError):  # a folder that can only be read
        os.utime(entry)
    return TrainingText(
        vocabulary=vocabulary,
        training_ids=training,
        held_out_ids=torch.from_numpy(held_out.astype(np.int32)),
        held_out_bytes=facts["held_out_bytes"],
        sha256=facts["sha256"],
        documents=facts["documents"],
    )


def _write(entry: Path, files: Sequence[Path], survey: Survey, source: VocabularySource, vocabulary_size: int) -> None:
    vocabulary = _make_vocabulary(files, survey, source, vocabulary_size)
    dtype = np.min_scalar_type(len(vocabulary) - 1)
    with whole_folder(entry, shared=True) as partial:
        with (partial / "training.ids").open("wb") as training, (partial / "held_out.ids").open("wb") as held_out:
            held_out_bytes = 0
            for part, ids in _encoded(files, survey, vocabulary):
                ids.astype(dtype).tofile(held_out if part.held_out else training)
                held_out_bytes += len(part.text.encode()) if part.held_out else 0
            sizes = [file.tell() // dtype.itemsize for file in (training, held_out)]
        if not sizes[1]:
            raise InputError(f"{files[0]}: is too short to hold out a tenth of it: pass a longer text")
        first = int(np.fromfile(partial / "held_out.ids", dtype, count=1)[0])
        facts = {
            "dtype": dtype.name,
            "sizes": sizes,
            "sha256": survey.sha256,
            "held_out_bytes": held_out_bytes - first_token_bytes(vocabulary, first),
            "documents": survey.facts,
        }
        if isinstance(vocabulary, CharacterVocabulary):
            vocabulary.save(partial / "characters.json")
        elif source == "bpe":
            assert isinstance(vocabulary, PreTrainedTokenizerFast)
            vocabulary.save_pretrained(partial)
        (partial / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _make_vocabulary(
    files: Sequence[Path], survey: Survey, source: VocabularySource, vocabulary_size: int
) -> Vocabulary:
    if not isinstance(source, str):
        return source
    if source == "bytes":
        return ByteVocabulary()
    if source == "characters":
        return CharacterVocabulary(sorted(survey.alphabet | (set(SEPARATOR) if survey.documents > 1 else set())))
    learned = 0

    def is_enough(part: Part) -> bool:
        nonlocal learned
        learned += 0 if part.held_out else len(part.text)
        return learned > BPE_CHARACTERS

    parts = takewhile(lambda part: not is_enough(part), parts_of(files, survey))
    return learn_bpe((part.text for part in parts if not part.held_out), vocabulary_size)


def _encoded(files: Sequence[Path], survey: Survey, vocabulary: Vocabulary) -> Iterator[tuple[Part, np.ndarray]]:
    """Each part with its ids, what stands between documents included."""
    end = end_of_text(vocabulary)
    parts = tracked(parts_of(files, survey), "encoding the corpus", "pieces")
    for some in in_batches(parts if len(end) else _separated(parts), lambda part: len(part.text)):
        for part, ids in zip(some, encode_texts(vocabulary, [part.text for part in some]), strict=True):
            yield part, np.concatenate([ids, end]) if part.ends and survey.documents > 1 else ids


def _separated(parts: Iterator[Part]) -> Iterator[Part]:
    """The parts with the separator before each document but the first to learn from and the first held out."""
    begun = set[bool]()
    for part in parts:
        yield part._replace(text=SEPARATOR + part.text) if part.starts and part.held_out in begun else part
        begun.add(part.held_out)
