"""What an extension will add to a tokenizer, and what that is worth: all of it known before any weight is loaded."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.merge_learning import Merge, NewToken, Pair, WholeToken, learn_merges
from tokenizer_ext.encoders.new_characters import choose_characters, count_characters, saved_by_characters
from tokenizer_ext.encoders.spm_cuts import LONGEST, may_be_token
from tokenizer_ext.encoders.spm_model import model_file_of
from tokenizer_ext.encoders.unread_bytes import check_readable
from tokenizer_ext.extension.corpus_files import Texts
from tokenizer_ext.extension.growth_curve import GrowthCurve, measure_growth
from tokenizer_ext.extension.piece_counts import Piece, adjacent_pairs, count_pieces
from tokenizer_ext.extension.reachability import assert_reachable
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.extension.word_merges import learn_words
from tokenizer_ext.huggingface.byte_level_backend import bpe_json, is_spm
from tokenizer_ext.huggingface.hf_tokenizer import (
    add_control_tokens,
    append_merges,
    append_whole,
    next_token_id,
    token_bytes,
)
from tokenizer_ext.pages.progress import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A tokenizer with its new tokens, and what they were made from."""

    base: PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast
    """The base with all new tokens: characters, those of words, then learned ones, then control tokens."""
    characters: tuple[WholeToken, ...] = ()
    """Characters that a SentencePiece base wrote as bytes, in the order of their ids."""
    merges: tuple[Merge, ...] = ()
    """Those of words and learned ones, in the order of their ids."""
    word_tokens: int = 0
    """How many of the merges were made for words."""
    control_tokens: tuple[str, ...] = ()
    texts: Texts = field(default_factory=Texts)
    pieces: Mapping[Piece, int] = field(default_factory=dict)
    """The pieces of the texts to learn from, in ids of the base and of `characters`."""
    refused_tokens: int | None = None
    """Tokens that would have been learned, had nothing been protected; None where nothing was."""
    curve: GrowthCurve | None = None
    """None where there is no text."""

    @property
    def tokens(self) -> tuple[NewToken, ...]:
        """The new tokens that are made of text, in the order of their ids."""
        return (*self.characters, *self.merges)

    @property
    def first_new_id(self) -> int:
        """The id after the last one that the base uses."""
        return next_token_id(self.base)

    @property
    def new_ids(self) -> int:
        """How many ids are new."""
        return next_token_id(self.tokenizer) - self.first_new_id


@shown("planning the vocabulary")
def make_plan(base: PreTrainedTokenizerFast, texts: Texts, wanted: Wanted) -> Plan:
    """The base's tokenizer with the tokens that are wanted, and their growth curve.

    Raises:
        InputError: a control token cannot be one; or tokens are to be made of text, and the tokenizer is neither
            byte-level nor SentencePiece BPE, a word cannot be a token, or the texts support fewer tokens.

    """
    if not (wanted.words or wanted.new_tokens):  # then no text changes its ids, so none is read
        control = tuple(wanted.control_tokens)
        return Plan(base=base, tokenizer=add_control_tokens(base, control) if control else base, control_tokens=control)
    base_pieces = _count(base, texts)
    refused = adjacent_pairs(texts.protected, base) if texts.protected else frozenset()
    characters = _cover(base, base_pieces, texts, wanted, refused) if is_spm(base) else []
    covered = append_whole(base, characters) if characters else base
    pieces = count_pieces(texts.to_learn, covered) if characters else base_pieces
    words = learn_words(wanted.words, covered, refused_pairs=refused) if wanted.words else []
    with_words = append_merges(covered, words) if words else covered  # each new tokenizer takes a reload
    pieces_with_words = count_pieces(texts.to_learn, with_words) if words else pieces
    log.info("Learning %s tokens …", f"{wanted.new_tokens:,}")
    still_wanted = replace(wanted, new_tokens=max(wanted.new_tokens - len(characters), 0))
    learned = _learn(with_words, pieces_with_words, still_wanted, refused) if still_wanted.new_tokens else []
    merges = [*words, *learned]
    extended = append_merges(with_words, learned) if learned else with_words
    extended = add_control_tokens(extended, wanted.control_tokens) if wanted.control_tokens else extended
    assert_reachable(extended, [*characters, *merges])
    return Plan(
        base=base,
        tokenizer=extended,
        characters=tuple(characters),
        merges=tuple(merges),
        word_tokens=len(words),
        control_tokens=tuple(wanted.control_tokens),
        texts=texts,
        pieces=pieces,
        refused_tokens=_count_refused(with_words, pieces_with_words, still_wanted, learned) if refused else None,
        curve=_measure(covered, texts, pieces, characters, merges) if texts.measured else None,
    )


def _count(base: PreTrainedTokenizerFast, texts: Texts) -> Counter[Piece]:
    bpe_json(base)  # refuses another family
    if is_spm(base):
        model_file_of(base)  # refuses one that disagrees
    else:
        check_readable(texts.to_learn, base)
    log.info("Counting the pieces of %s documents …", f"{len(texts.to_learn):,}")
    return count_pieces(texts.to_learn, base)


def _cover(
    base: PreTrainedTokenizerFast,
    pieces: Mapping[Piece, int],
    texts: Texts,
    wanted: Wanted,
    refused: Collection[Pair],
) -> list[WholeToken]:
    """The characters that get a token because each saves as many tokens as the last of as many merges would."""
    counts = count_characters(texts.to_learn)
    kept_out = set().union(*texts.protected) | {one for one in counts if not _is_wanted(one.encode(), wanted)}
    counts = Counter({one: count for one, count in counts.items() if one not in kept_out})
    merges = _learn_at_most(base, pieces, wanted, refused)
    least = merges[-1].count if merges and len(merges) == wanted.new_tokens else wanted.minimum_count
    return choose_characters(
        counts,
        base,
        first_id=next_token_id(base),
        most=wanted.new_tokens,
        least_saving=max(least, wanted.minimum_count),
    )


def _learn(
    tokenizer: PreTrainedTokenizerFast, pieces: Mapping[Piece, int], wanted: Wanted, refused: Collection[Pair]
) -> list[Merge]:
    merges = _learn_at_most(tokenizer, pieces, wanted, refused)
    if len(merges) < wanted.new_tokens:
        raise InputError(
            f"new_tokens: asked for {wanted.new_tokens}, the corpus supports {len(merges)}, whose pairs occur "
            f"{wanted.minimum_count} times or more in it: ask for fewer, or give more text"
        )
    return merges


@shown("learning tokens")
def _learn_at_most(
    tokenizer: PreTrainedTokenizerFast, pieces: Mapping[Piece, int], wanted: Wanted, refused: Collection[Pair]
) -> list[Merge]:
    return learn_merges(
        pieces,
        token_bytes(tokenizer),
        new_tokens=wanted.new_tokens,
        first_id=next_token_id(tokenizer),
        minimum_count=wanted.minimum_count,
        maximum_bytes=wanted.maximum_bytes,
        allow=_allowed(tokenizer, wanted),
        refused_pairs=refused,
    )


def _allowed(tokenizer: PreTrainedTokenizerFast, wanted: Wanted) -> Callable[[bytes], bool]:
    """Which tokens may be learned."""
    if not is_spm(tokenizer):
        return partial(_is_wanted, wanted=wanted)
    longest = None if wanted.maximum_bytes else LONGEST
    return lambda token: may_be_token(token, longest) and _is_wanted(token, wanted)


def _count_refused(
    tokenizer: PreTrainedTokenizerFast, pieces: Mapping[Piece, int], wanted: Wanted, learned: Sequence[Merge]
) -> int:
    unprotected = _learn_at_most(tokenizer, pieces, wanted, ())
    return len({merge.token_bytes for merge in unprotected} - {merge.token_bytes for merge in learned})


def _measure(
    covered: PreTrainedTokenizerFast,
    texts: Texts,
    pieces: Mapping[Piece, int],
    characters: Sequence[WholeToken],
    merges: Sequence[Merge],
) -> GrowthCurve:
    log.info("Measuring what %s tokens are worth …", f"{len(characters) + len(merges):,}")
    measured = count_pieces(texts.held_out, covered) if texts.held_out else pieces
    text_bytes = sum(len(text.encode(errors="replace")) for text in texts.measured)
    saved = saved_by_characters(count_characters(texts.measured), characters) if characters else ()
    first = next_token_id(covered) - len(characters)
    return measure_growth(pieces, measured, text_bytes, merges, first, characters=saved)


def _is_wanted(token: bytes, wanted: Wanted) -> bool:
    """Whether nobody asked for it to be left out, by itself or because it holds a digit."""
    if token in wanted.leave_out:
        return False
    return wanted.digits or not any(character.isdigit() for character in token.decode(errors="ignore"))
