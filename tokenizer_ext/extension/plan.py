"""What an extension will add to a tokenizer, and what that is worth: all of it known before any weight is loaded."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.merge_learning import Merge, Pair, learn_merges
from tokenizer_ext.encoders.unread_bytes import check_readable
from tokenizer_ext.extension.corpus_files import Texts
from tokenizer_ext.extension.growth_curve import GrowthCurve, measure_growth
from tokenizer_ext.extension.piece_counts import Piece, adjacent_pairs, count_pieces
from tokenizer_ext.extension.reachability import assert_reachable
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.extension.word_merges import learn_words
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, append_merges, next_token_id, token_bytes
from tokenizer_ext.pages.progress import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A tokenizer with its new tokens, and what they were made from."""

    base: PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast
    """The base with all new tokens: those of words first, then learned ones, then control tokens."""
    merges: tuple[Merge, ...] = ()
    """Those of words and learned ones, in the order of their ids."""
    word_tokens: int = 0
    """How many of the merges were made for words."""
    control_tokens: tuple[str, ...] = ()
    texts: Texts = field(default_factory=Texts)
    pieces: Mapping[Piece, int] = field(default_factory=dict)
    """The pieces of the texts to learn from, in ids of the base."""
    refused_tokens: int | None = None
    """Tokens that would have been learned, had nothing been protected; None where nothing was."""
    curve: GrowthCurve | None = None
    """None where there is no text."""

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
        InputError: a control token cannot be one; or tokens are to be made of text, and the tokenizer is no byte-level
            BPE, a word cannot be a token, or the texts support fewer tokens.

    """
    if not (wanted.words or wanted.new_tokens):  # then no text changes its ids, so none is read
        control = tuple(wanted.control_tokens)
        return Plan(base=base, tokenizer=add_control_tokens(base, control) if control else base, control_tokens=control)
    check_readable(texts.to_learn, base)
    log.info("Counting the pieces of %s documents …", f"{len(texts.to_learn):,}")
    refused = adjacent_pairs(texts.protected, base) if texts.protected else frozenset()
    pieces = count_pieces(texts.to_learn, base)
    words = learn_words(wanted.words, base, refused_pairs=refused) if wanted.words else []
    with_words = append_merges(base, words) if words else base  # each new tokenizer takes a reload
    pieces_with_words = count_pieces(texts.to_learn, with_words) if words else pieces
    log.info("Learning %s tokens …", f"{wanted.new_tokens:,}")
    learned = _learn(with_words, pieces_with_words, wanted, refused) if wanted.new_tokens else []
    merges = [*words, *learned]
    extended = append_merges(with_words, learned) if learned else with_words
    extended = add_control_tokens(extended, wanted.control_tokens) if wanted.control_tokens else extended
    assert_reachable(extended, merges)
    return Plan(
        base=base,
        tokenizer=extended,
        merges=tuple(merges),
        word_tokens=len(words),
        control_tokens=tuple(wanted.control_tokens),
        texts=texts,
        pieces=pieces,
        refused_tokens=_count_refused(with_words, pieces_with_words, wanted, learned) if refused else None,
        curve=_measure(base, texts, pieces, merges) if texts.measured else None,
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
        allow=lambda token: token not in wanted.leave_out and (wanted.digits or _holds_no_digit(token)),
        refused_pairs=refused,
    )


def _count_refused(
    tokenizer: PreTrainedTokenizerFast, pieces: Mapping[Piece, int], wanted: Wanted, learned: Sequence[Merge]
) -> int:
    unprotected = _learn_at_most(tokenizer, pieces, wanted, ())
    return len({merge.token_bytes for merge in unprotected} - {merge.token_bytes for merge in learned})


def _measure(
    base: PreTrainedTokenizerFast, texts: Texts, pieces: Mapping[Piece, int], merges: Sequence[Merge]
) -> GrowthCurve:
    log.info("Measuring what %s tokens are worth …", f"{len(merges):,}")
    measured = count_pieces(texts.held_out, base) if texts.held_out else pieces
    text_bytes = sum(len(text.encode(errors="replace")) for text in texts.measured)
    return measure_growth(pieces, measured, text_bytes, merges, next_token_id(base))


def _holds_no_digit(token: bytes) -> bool:
    return not any(character.isdigit() for character in token.decode(errors="ignore"))
