"""How often each pre-token occurs in a corpus, as the tokenizer's own pipeline cuts and encodes it.

To normalise and cut a corpus text by text from Python takes twenty times as long as to learn 10,000 merges from it. The
tokenizers library does it on all cores for its trainers, so one of those is asked to count: for a vocabulary of whole
words it counts pre-tokens and does nothing else. Each distinct pre-token is then encoded once.

SentencePiece BPE does not cut text. Its pieces are what lies between two tokens that no merge may join
(`tokenizer_ext/encoders/spm_cuts.py`); for counting, text is cut where a space begins and no token spans it.

A base with `ignore_merges` needs nothing of its own here: a pre-token that is a token as a whole is one id, as that
base reads it, and holds no pair to learn from.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby, pairwise

from tokenizers import Encoding, Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.lone_surrogates import without_lone_surrogates
from tokenizer_ext.bpe.merge_learning import Pair
from tokenizer_ext.bpe.split_patterns import pattern_of_any
from tokenizer_ext.bpe.written_tokens import byte_token
from tokenizer_ext.encoders.spm_cuts import cut_where_no_merge_goes, split_before_spaces
from tokenizer_ext.huggingface.byte_level_backend import bpe_json, is_spm, writing_of
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.pages.progress import tracked

Piece = tuple[int, ...]
_WORDS_PER_BATCH = 100_000


def count_pieces(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Counter[Piece]:
    """How often each pre-token occurs in `texts`, as ids of `tokenizer`.

    Added tokens (control tokens, and words that were added as such) are no part of any piece; what stands between them
    is normalised and cut as the tokenizer does. A lone surrogate is read as U+FFFD.

    Raises:
        InputError: the tokenizer is neither byte-level nor SentencePiece BPE.

    """
    cut = piece_cutter(tokenizer)
    encoder = plain_text_encoder(tokenizer)
    added = _AddedTokens(tokenizer)
    left_over: list[str] = []
    normalizer = None if added.normalize else encoder.normalizer
    counted = tracked(texts, "counting pieces", "documents")
    parts = added.plain_parts(map(without_lone_surrogates, counted), left_over)
    words = _count_words(parts, normalizer, _spm_words(tokenizer) if is_spm(tokenizer) else encoder.pre_tokenizer)
    pieces: Counter[Piece] = Counter()
    for ids, count in zip(_encode_words(list(words), encoder), words.values(), strict=True):
        for piece in cut(ids):
            pieces[piece] += count
    for text in left_over:
        pieces.update([piece for ids in added.pieces_between(text) for piece in cut(ids)])
    return pieces


def piece_cutter(tokenizer: PreTrainedTokenizerFast) -> Callable[[Piece], Iterable[Piece]]:
    """What cuts the ids of a pre-token where no merge may go: nowhere in byte-level BPE, whose pre-tokens are cut so.

    Raises:
        InputError: the tokenizer is neither byte-level nor SentencePiece BPE.

    """
    vocabulary = bpe_json(tokenizer)["model"]["vocab"]
    if not is_spm(tokenizer):
        return lambda ids: (ids,)
    in_bytes = {byte_token(byte) for byte in range(256)}
    texts = {id_: token for token, id_ in vocabulary.items() if token not in in_bytes}
    return partial(cut_where_no_merge_goes, texts=texts)


def word_cutter(tokenizer: PreTrainedTokenizerFast, pipeline: Tokenizer) -> Callable[[str], list[Piece]]:
    """What gives the pieces of a word by the tokenizer's own pipeline; of SentencePiece's, as it stands within a text.

    There a space is put before every text, so the pipeline has no way to read a word that follows no space.
    """
    if not is_spm(tokenizer):
        return lambda word: pieces_of(pipeline.encode(word, add_special_tokens=False))
    cut, added = piece_cutter(tokenizer), set(pipeline.get_added_tokens_decoder())
    model, write = pipeline.model, writing_of(tokenizer).write

    def pieces_within_text(word: str) -> list[Piece]:
        encoding = pipeline.encode(word, add_special_tokens=False)
        if not added.isdisjoint(encoding.ids):
            return pieces_of(encoding)
        return list(cut(tuple([token.id for token in model.tokenize(write(word.encode(errors="replace")))])))

    return pieces_within_text


def adjacent_pairs(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> frozenset[Pair]:
    """All pairs of neighbouring ids in the pieces of `texts`: `refused_pairs` for learning what leaves them alone.

    Raises:
        InputError: the tokenizer is neither byte-level nor SentencePiece BPE.

    """
    return frozenset(pair for piece in count_pieces(texts, tokenizer) for pair in pairwise(piece))


def pieces_of(encoding: Encoding) -> list[Piece]:
    """The ids of a text that the library encoded, in the pre-tokens that it cut."""
    in_words = groupby(zip(encoding.word_ids, encoding.ids, strict=True), key=lambda pair: pair[0])
    return [tuple([id_ for _, id_ in group]) for _, group in in_words]


def own_pipeline(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The tokenizer as it is, added tokens and all, but it cuts no text off and fills none up; do not change it."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    if backend.truncation is None and backend.padding is None:
        return backend
    pipeline = Tokenizer.from_str(backend.to_str())
    pipeline.no_truncation()
    pipeline.no_padding()
    return pipeline


def _spm_words(tokenizer: PreTrainedTokenizerFast) -> PreTokenizer:
    pattern = split_before_spaces(bpe_json(tokenizer)["model"]["vocab"])
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def _count_words(
    texts: Iterable[str], normalizer: Normalizer | None, pre_tokenizer: PreTokenizer | None
) -> dict[str, int]:
    """How often each pre-token occurs, in the alphabetical order of how vocabulary files write them."""
    counter = Tokenizer(models.WordLevel({}, unk_token=""))
    counter.normalizer, counter.pre_tokenizer = normalizer, pre_tokenizer
    trainer = trainers.WordLevelTrainer(vocab_size=0, min_frequency=0, show_progress=False)
    counter.train_from_iterator(texts, trainer)
    words = json.loads(trainer.__getstate__())["WordLevelTrainer"]["words"]  # what pickling a trainer writes
    return dict(sorted(words.items()))  # the library's order is another one in each process


def _encode_words(words: list[str], encoder: Tokenizer) -> Iterator[Piece]:
    """The ids of pre-tokens, which are cut already."""
    model = Tokenizer(encoder.model)
    for start in range(0, len(words), _WORDS_PER_BATCH):
        for encoding in model.encode_batch_fast(words[start : start + _WORDS_PER_BATCH], add_special_tokens=False):
            yield tuple(encoding.ids)


class _AddedTokens:
    """The added tokens of a tokenizer, and what of a text lies outside them.

    The tokenizer cuts a text at those that it seeks in raw text, normalises what is left, and cuts that at the others.
    It is done here in the same way, save for tokens that take spaces with them or stand only as whole words: a text
    that holds one is left to the tokenizer itself, which is slower.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.pipeline = own_pipeline(tokenizer)
        by_id = self.pipeline.get_added_tokens_decoder()
        self.ids = set(by_id)
        self.found_by_text_alone = not any(
            token.lstrip or token.rstrip or token.single_word for token in by_id.values()
        )
        self.raw = pattern_of_any([token.content for token in by_id.values() if token.content and not token.normalized])
        normalized = [token.content for token in by_id.values() if token.normalized]
        self.normalize = self.pipeline.normalizer.normalize_str if self.pipeline.normalizer and normalized else None
        self.normalized = pattern_of_any(
            filter(None, map(self.normalize, normalized) if self.normalize else normalized)
        )

    def plain_parts(self, texts: Iterable[str], left_over: list[str]) -> Iterator[str]:
        """The parts of `texts` without added tokens; a text that the tokenizer must read itself goes to `left_over`.

        They are normalised where `normalize` is set: it is needed to find the tokens.
        """
        for text in texts:
            parts = [part for raw in self.raw.split(text) for part in self._normalized_parts(raw)]
            if len(parts) > 1 and not self.found_by_text_alone:
                left_over.append(text)
            else:
                yield from parts

    def pieces_between(self, text: str) -> Iterator[Piece]:
        """The pre-tokens of `text` that are no added tokens, by the tokenizer's own pipeline."""
        for piece in pieces_of(self.pipeline.encode(text, add_special_tokens=False)):
            if self.ids.isdisjoint(piece):
                yield piece

    def _normalized_parts(self, text: str) -> list[str]:
        return self.normalized.split(self.normalize(text) if self.normalize else text)
