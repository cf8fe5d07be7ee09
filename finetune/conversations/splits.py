"""The conversations of a run: those to learn from and those held out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from configs import InputError
from finetune import conversations, files
from finetune.conversations.embedded_conversations import keep_half_checkable, make_conversations
from finetune.conversations.formats import Conversation
from finetune.conversations.messages import asked_of, hash_asked, hash_messages
from finetune.conversations.near_questions import NearQuestions, asked_text
from finetune.conversations.orders import OddOrder, add_up
from finetune.conversations.reading import ALL_MARKED, CONVERSATIONS, Learn, Reading
from finetune.files.kept_readings import KeptReadings
from finetune.files.stored_items import Stored
from finetune.files.weighted_sets import Data, Mixture, WeightedSet, describe_data, read_sets
from scratch_models import corpus
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.embedded.default import EMBEDDED
from tokenizer_ext.pages.progress import tracked

HELD_OUT_EVERY, MOST_HELD_OUT = 20, 2000
"""One question in so many is held out, and no more than so many questions."""
SAMPLE_OF_QUESTIONS = 2000
PARTS = ("training", "held_out")
CODE = tuple(Path(folder.__path__[0]) for folder in (conversations, files, corpus))
"""The folders whose code decides how files are read and split."""
NEARLY_HELD_OUT = "conversations whose question is nearly one that is held out"


@dataclass(frozen=True)
class Drawn:
    """Conversations that were drawn because a run reads no more."""

    number: int
    of: int


@dataclass(frozen=True)
class ConversationSplits:
    """Two sets without a question in common, and the text that new tokens may be learned from."""

    training: Sequence[Conversation]
    held_out: Sequence[Conversation]
    corpus: list[str]
    """Documents of the domain, for the embedded data; empty otherwise."""
    left_out: Mapping[str, int]
    """What is in neither set -> how often."""
    odd: Mapping[str, OddOrder] = field(default_factory=dict)
    """What is odd in the order of turns, and read as it is."""
    mixture: Mixture | None = None
    """Which of several weighted sets each conversation to learn from is of."""
    drawn: Drawn | None = None
    """How those to learn from were drawn; None where they are all."""
    kept_sha256: str | None = None
    """The hash of both sets, where it was kept with them."""
    kept_as: str | None = None
    """The key that both sets are kept under for the next run, where they are."""

    def sha256(self) -> str:
        """The hash of all messages of both sets."""
        if self.kept_sha256 is not None:
            return self.kept_sha256
        both = self.training, self.held_out
        messages, tools = chain(*both), (one.tools for one in chain(*both))
        return hash_messages((one.messages for one in messages), tools=tools)


def read_conversation_splits(data: Data, held_out: str | None = None, learn: Learn = "all") -> ConversationSplits:
    """The conversations named by `data`: `embedded`, or one or several of files, folders and Hub names.

    Those held out are named by `held_out`, else they are one question in twenty, 2,000 at most. Every reply is learned,
    or of each conversation the last.

    Raises:
        InputError: the data cannot be read, or is too little to hold anything out.

    """
    if data == EMBEDDED:
        if held_out is not None:
            raise InputError(f"held_out: found {held_out}, expected none: the embedded conversations have their own")
        return _read_embedded()
    sets = read_sets(data)
    names = [one.name for one in sets] + ([] if held_out is None else [held_out])
    readings = KeptReadings(CONVERSATIONS, CODE)
    key = readings.key_of(names, weights=[one.weight for one in sets], held_out=held_out, learn=learn)
    if key is not None and (found := readings.find(key, PARTS)):
        return replace(_from_kept(*found, sets), kept_as=key)
    read = Reading(data, learn)
    splits = _split(read) if held_out is None else _split_given(read, Reading(held_out, learn))
    if key is not None:
        readings.keep(key, {part: getattr(splits, part) for part in PARTS}, _facts_of(splits))
    return replace(splits, kept_as=key)


def _facts_of(splits: ConversationSplits) -> dict[str, Any]:
    """What is kept beside the conversations."""
    set_of = None if splits.mixture is None else splits.mixture.set_of.tolist()
    odd = {what: asdict(one) for what, one in splits.odd.items()}
    return {"left_out": splits.left_out, "odd": odd, "set_of": set_of, "sha256": splits.sha256()}


def _from_kept(
    parts: Mapping[str, Stored[Conversation]], facts: Mapping[str, Any], sets: Sequence[WeightedSet]
) -> ConversationSplits:
    """The splits that were kept."""
    odd = {what: OddOrder(**one) for what, one in facts["odd"].items()}
    mixture = None if facts["set_of"] is None else Mixture(tuple(sets), np.array(facts["set_of"]))
    return ConversationSplits(
        parts["training"], parts["held_out"], [], facts["left_out"], odd, mixture, kept_sha256=facts["sha256"]
    )


def _read_embedded() -> ConversationSplits:
    corpus = embedded_corpus()
    made, of_held_out = make_conversations(corpus.domain), make_conversations(corpus.domain_held_out)
    held_out = keep_half_checkable(of_held_out)
    # Two functions may share name and signature although their documentation differs.
    held_out_questions = {hash_asked(asked_of(one)) for one in held_out}
    apart = [one for one in made if hash_asked(asked_of(one)) not in held_out_questions]
    training = keep_half_checkable(apart)
    left_out = {
        "questions that are held out too": len(made) - len(apart),
        "questions beyond the half that cannot be checked": len(apart) - len(training),
        "held-out questions beyond the half that cannot be checked": len(of_held_out) - len(held_out),
    }
    return ConversationSplits(training, held_out, [document.text for document in corpus.domain], left_out)


def _split(read: Reading) -> ConversationSplits:
    """One question in twenty is held out, chosen by its hash; what is nearly the same is not learned.

    So a question that stands there twice lies on one side, and the order of the lines has no effect.
    """
    questions = np.unique(read.asked)
    marked = read.left_out[ALL_MARKED]
    if len(questions) < HELD_OUT_EVERY:
        without = f" beside {marked} {ALL_MARKED}" * (marked > 0)
        raise InputError(
            f"{describe_data(read.data)}: {len(questions)} different questions{without} are too few, expected at least "
            f"{HELD_OUT_EVERY}: one in {HELD_OUT_EVERY} is held out; give more conversations, or some to hold out as "
            "--held_out"
        )
    chosen = questions[: min(len(questions) // HELD_OUT_EVERY, MOST_HELD_OUT)]
    is_held_out = np.isin(read.without_style, read.without_style[np.isin(read.asked, chosen)])
    return _apart(read, np.flatnonzero(~is_held_out), read.usable.only(np.flatnonzero(is_held_out)))


def _split_given(training: Reading, held_out: Reading) -> ConversationSplits:
    """All of a set that is given are held out, and what shares a question with them is not learned."""
    for read in (training, held_out):
        if not len(read.usable):
            where = describe_data(read.data)
            raise InputError(f"{where}: no conversation has a reply to learn: all are marked weight 0 or train false")
    apart = np.flatnonzero(~np.isin(training.without_style, held_out.without_style))
    shared = len(training.usable) - len(apart)
    if not len(apart):
        raise InputError(
            f"{describe_data(training.data)}: all {shared} questions are held out in {describe_data(held_out.data)} "
            "too, expected other ones to learn from"
        )
    training.left_out.update(held_out.left_out)
    training.left_out["conversations whose question is held out too"] = shared
    training.odd = add_up(training.odd, held_out.odd)
    return _apart(training, apart, held_out.usable)


def _apart(read: Reading, training: np.ndarray, held_out: Sequence[Conversation]) -> ConversationSplits:
    """The splits, without the conversations whose question is nearly a held-out one.

    Raises:
        InputError: nothing is left to learn from.

    """
    sample = training[evenly_spaced(range(len(training)), SAMPLE_OF_QUESTIONS)]
    near = NearQuestions(map(_asked_text, held_out), map(_asked_text, read.usable.only(sample)))
    shown = tracked(read.usable.only(training), "comparing with the held-out questions", "conversations")
    kept = training[[not near.is_near(_asked_text(conversation)) for conversation in shown]]
    if not len(kept):
        raise InputError(
            f"{describe_data(read.data)}: every question is nearly one that is held out, expected different ones; give "
            "some to hold out as --held_out"
        )
    read.left_out[NEARLY_HELD_OUT] = len(training) - len(kept)
    chosen = read.usable.only(kept)
    return ConversationSplits(chosen, held_out, [], read.left_out, read.odd, read.mixture(kept))


def _asked_text(conversation: Conversation) -> str:
    return asked_text(asked_of(conversation))
