"""How often each pre-token occurs in a corpus, as the tokenizer's own pipeline cuts and encodes it.

Normalising and cutting 50 MB text by text from Python takes as long as learning 10,000 merges takes many times over.
The tokenizers library does it on all cores for its trainers, so one of those is asked to count: for a vocabulary of
whole words it counts pre-tokens and does nothing else. Each distinct pre-token is then encoded once.

A base with `ignore_merges` needs nothing of its own here: a pre-token that is a token as a whole is one id, as that
base reads it, and holds no pair to learn from.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

import regex
from tokenizers import AddedToken, Tokenizer, models, trainers
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.hf_tokenizer import plain_text_encoder
from tokenizer_ext.lone_surrogates import without_lone_surrogates

Piece = tuple[int, ...]

_WORDS_PER_BATCH = 100_000


def count_pieces(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Counter[Piece]:
    """How often each pre-token occurs in `texts`, as ids of `tokenizer`.

    Added tokens (control tokens, and words that were added as such) are no part of any piece; what stands between them
    is normalised and cut as the tokenizer does. A lone surrogate is read as U+FFFD.

    Raises InputError for a tokenizer that is no byte-level BPE.
    """
    encoder = plain_text_encoder(tokenizer)
    added = _AddedTokens(tokenizer)
    left_over: list[str] = []
    words = _count_words(added.plain_parts(map(without_lone_surrogates, texts), left_over), encoder)
    pieces: Counter[Piece] = Counter()
    for piece, count in zip(_encode_words(list(words), encoder), words.values(), strict=True):
        pieces[piece] += count
    for text in left_over:
        pieces.update(added.pieces_between(text))
    return pieces


def _count_words(texts: Iterable[str], encoder: Tokenizer) -> dict[str, int]:
    """How often each pre-token occurs, in the alphabetical order of how vocabulary files write them."""
    counter = Tokenizer(models.WordLevel({}, unk_token=""))
    if encoder.normalizer:
        counter.normalizer = encoder.normalizer
    counter.pre_tokenizer = encoder.pre_tokenizer
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

    Most are found by their text alone, so the text can be cut there first. Those that take spaces with them, stand only
    as whole words, or are sought in the normalised text are left to the tokenizer itself, which is slower.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.pipeline = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.pipeline.no_truncation()
        self.pipeline.no_padding()
        self.ids = set(self.pipeline.get_added_tokens_decoder())
        tokens = list(self.pipeline.get_added_tokens_decoder().values())
        self.normalize = self.pipeline.normalizer.normalize_str if self.pipeline.normalizer else None
        self.plain = all(_found_by_text_alone(token, self.normalize is not None) for token in tokens)
        contents = [token.content for token in tokens if token.content]
        if not self.plain and self.normalize:
            contents += [normal for content in contents if (normal := self.normalize(content))]
        longest_first = sorted(contents, key=len, reverse=True)
        self.pattern = regex.compile("|".join(map(regex.escape, longest_first)) or "(?!)")

    def plain_parts(self, texts: Iterable[str], left_over: list[str]) -> Iterator[str]:
        """The parts of `texts` without added tokens; a text that the tokenizer must read itself goes to `left_over`."""
        for text in texts:
            if self.plain:
                yield from self.pattern.split(text)
            elif self.pattern.search(text) or (self.normalize and self.pattern.search(self.normalize(text))):
                left_over.append(text)
            else:
                yield text

    def pieces_between(self, text: str) -> Iterator[Piece]:
        """The pre-tokens of `text` that are no added tokens, by the tokenizer's own pipeline."""
        encoding = self.pipeline.encode(text, add_special_tokens=False)
        for _, group in groupby(zip(encoding.word_ids, encoding.ids, strict=True), key=lambda pair: pair[0]):
            piece = tuple([id_ for _, id_ in group])
            if self.ids.isdisjoint(piece):
                yield piece


def _found_by_text_alone(token: AddedToken, normalizes: bool) -> bool:
    return not (token.lstrip or token.rstrip or token.single_word or (token.normalized and normalizes))
