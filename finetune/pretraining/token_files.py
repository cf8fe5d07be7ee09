"""The texts of a run as ids in files, made piece by piece, so that a text may be larger than memory.

    pretraining/<key>/0.training.ids   the ids to learn from of the first text, an array without a header
    pretraining/<key>/0.held_out.ids   those to measure on
    pretraining/<key>/0.held_out.bytes how many bytes of the text each of them stands for
    pretraining/<key>/facts.json       the type of the ids, and of each text its hash, sizes, and what was left out

The key is a hash of all that decides the ids: the content of the files, the tokenizer, and the code that reads and
encodes. A text is read up to three times: to count it, to hold out, to encode.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tokenizers
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from configs import InputError
from configs.cache_folder import cache_folder
from configs.file_hash import hash_code
from configs.whole_folder import whole_folder
from finetune.pretraining.clean_split import CleanText, Stretch, read_held_out
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.text_sources import TextSource
from scratch_models import documents as documents_folder
from scratch_models.corpus.kept_ids import in_batches, open_or_make
from scratch_models.corpus.named_tokenizer import source_key
from scratch_models.corpus.stored_ids import StoredIds
from tokenizer_ext import huggingface
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.pages.progress import progress

BYTES = np.dtype(np.uint32)
DECIDES_IDS = tuple(Path(folder.__path__[0]) for folder in (documents_folder, huggingface))


@dataclass(frozen=True)
class TextFacts:
    """What was found in a text."""

    sha256: str
    documents: int
    """To learn from."""
    held_out_documents: int
    left_out: int
    """Documents, or paragraphs of a single text, that nearly equal something held out."""
    tokens: int
    """To learn from, those between documents included."""
    held_out_tokens: int
    one_text: bool


@dataclass(frozen=True)
class EncodedText:
    """A text as ids."""

    name: str
    training: StoredIds
    held_out: StoredIds
    held_out_bytes: StoredIds
    """UTF-8 bytes of the text that each held-out id stands for, none for what stands between documents."""
    facts: TextFacts


def encode_sources(
    sources: Sequence[TextSource], tokenizer: PreTrainedTokenizerFast, ends: DocumentEnds, folder: Path | None = None
) -> list[EncodedText]:
    """The ids of all texts, from the cache if they are there, and else put there as they are made.

    Raises:
        InputError: a text cannot be read, two are the same, or the cache has no room.

    """
    folder = folder or cache_folder() / "pretraining"
    entry = folder / _entry_key(sources, tokenizer, ends)
    return open_or_make(entry, lambda: _open(entry, sources), lambda: _write(entry, sources, tokenizer, ends))


def _entry_key(sources: Sequence[TextSource], tokenizer: PreTrainedTokenizerFast, ends: DocumentEnds) -> str:
    with progress("hashing the texts"):
        keys = [source.key for source in sources]
    decided_by = {
        "texts": keys,
        "tokens": source_key(tokenizer),
        "ends": asdict(ends),
        "tokenizers": tokenizers.__version__,
        "code": hash_code((Path(__file__).parent, *DECIDES_IDS)),
    }
    return hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()


def _open(entry: Path, sources: Sequence[TextSource]) -> list[EncodedText] | None:
    """The entry; None where there is none, or where it is not whole and has to be made again."""
    try:
        stored = json.loads((entry / "facts.json").read_bytes())
        dtype = np.dtype(stored["dtype"])
        found = []
        for number, (source, facts) in enumerate(zip(sources, stored["texts"], strict=True)):
            training, held_out = (StoredIds(entry / f"{number}.{part}.ids", dtype) for part in ("training", "held_out"))
            lengths = StoredIds(entry / f"{number}.held_out.bytes", BYTES)
            text = EncodedText(source.name, training, held_out, lengths, TextFacts(**facts))
            expected = text.facts.tokens, text.facts.held_out_tokens, text.facts.held_out_tokens
            if (len(training), len(held_out), len(lengths)) != expected:
                return None
            found.append(text)
    except (OSError, ValueError, KeyError, TypeError):  # absent, closed to us, or cut short by a full disk
        return None
    with suppress(OSError):  # a folder that can only be read
        os.utime(entry)
    return found


def _write(entry: Path, sources: Sequence[TextSource], tokenizer: PreTrainedTokenizerFast, ends: DocumentEnds) -> None:
    held_out = read_held_out(sources)
    dtype = np.min_scalar_type(next_token_id(tokenizer))
    with whole_folder(entry, shared=True) as partial:
        facts = []
        for number, source in enumerate(sources):
            text = CleanText(source, held_out)
            with (
                (partial / f"{number}.training.ids").open("wb") as training,
                (partial / f"{number}.held_out.ids").open("wb") as measured,
                (partial / f"{number}.held_out.bytes").open("wb") as lengths,
            ):
                writers = [_Writer(training, dtype, ends), _Writer(measured, dtype, ends, lengths)]
                with progress(f"encoding {source.name}", source.characters, "characters") as bar:
                    for stretch, encoding in _encoded(text, tokenizer):
                        writers[stretch.held_out].write(stretch, encoding)
                        bar.update(len(stretch.text))
            facts.append(_facts(source, text, *writers))
        stored = {"dtype": dtype.name, "texts": [asdict(one) for one in facts]}
        (partial / "facts.json").write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


def _facts(source: TextSource, text: CleanText, training: "_Writer", held_out: "_Writer") -> TextFacts:
    for writer, what in ((training, "learn from"), (held_out, "measure on")):
        if not writer.documents and (source.learned or writer is held_out):
            left_out = f" once {text.left_out:,} near-duplicates of held-out text are left out" * bool(text.left_out)
            raise InputError(f"{source.name}: holds nothing to {what}{left_out}, expected more text")
    return TextFacts(
        sha256=source.sha256,
        documents=training.documents,
        held_out_documents=held_out.documents,
        left_out=text.left_out,
        tokens=training.tokens,
        held_out_tokens=held_out.tokens,
        one_text=source.one_text,
    )


class _Writer:
    """Puts documents between their ends, and counts them; what is held out with the bytes of each id."""

    def __init__(self, file: BinaryIO, dtype: np.dtype, ends: DocumentEnds, lengths: BinaryIO | None = None) -> None:
        self.file, self.dtype, self.ends, self.lengths = file, dtype, ends, lengths
        self.tokens = self.documents = 0
        self.last: int | None = None

    def write(self, stretch: Stretch, encoding: Encoding) -> None:
        """A stretch, with what stands before and behind it."""
        if stretch.starts:
            self.documents += 1
            if self.last not in (None, self.ends.end_id):  # what came before ended in a gap
                self._put([self.ends.end_id])
            if not (self.ends.shared and self.last == self.ends.end_id):
                self._put([self.ends.start_id])
        self._put(encoding.ids, () if self.lengths is None else byte_lengths(stretch.text, encoding.offsets))
        if stretch.ends:
            self._put([self.ends.end_id])

    def _put(self, ids: Sequence[int], lengths: Sequence[int] = (0,)) -> None:
        np.array(ids, dtype=self.dtype).tofile(self.file)
        if self.lengths is not None:
            np.array(lengths, dtype=BYTES).tofile(self.lengths)
        self.tokens += len(ids)
        self.last = ids[-1] if ids else self.last


def byte_lengths(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """How many UTF-8 bytes of a text each token stands for, by the characters that it spans; in all, all bytes of it.

    A character in several tokens counts for the first, one without a token for the next that has one, or the last.

    >>> byte_lengths("añ!?", [(0, 1), (1, 2), (1, 2), (3, 4)])
    [1, 2, 0, 2]
    """
    lengths, read = [], 0
    for _, end in offsets:
        lengths.append(len(text[read:end].encode()))
        read = max(read, end)
    if lengths:
        lengths[-1] += len(text[read:].encode())
    return lengths


def _encoded(stretches: Iterable[Stretch], tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Stretch, Encoding]]:
    """Each stretch with its ids, nothing added; what reads like a control token is text."""
    encoder = plain_text_encoder(tokenizer)
    for some in in_batches(stretches, lambda stretch: len(stretch.text)):
        # Where each token stands in the text is known only of the slower of the two.
        needs_places = any(stretch.held_out for stretch in some)
        encode = encoder.encode_batch if needs_places else encoder.encode_batch_fast
        yield from zip(some, encode([stretch.text for stretch in some], add_special_tokens=False), strict=True)
