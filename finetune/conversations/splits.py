"""The conversations of a run: those to learn from and those held out."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

import numpy as np

from configs import InputError
from finetune.conversations.embedded_conversations import keep_half_checkable, make_conversations
from finetune.conversations.formats import Conversation, each_conversation
from finetune.conversations.keys import count_unread
from finetune.conversations.messages import asked_of, hash_asked, hash_conversation, hash_messages, until_last_reply
from finetune.conversations.near_questions import NearQuestions, asked_text
from finetune.conversations.orders import OddOrder, add_oddities, add_up
from finetune.files.stored_items import ChosenItems, StoredItems
from finetune.files.weighted_sets import Data, Mixture, describe_data, find_twins, read_sets
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.embedded_default import EMBEDDED
from tokenizer_ext.pages.progress import tracked

HELD_OUT_EVERY, MOST_HELD_OUT = 20, 2000
"""One question in so many is held out, and no more than so many questions."""
SAMPLE_OF_QUESTIONS = 2000
ALL_MARKED = "conversations whose replies are all marked weight 0 or train false"
NEARLY_HELD_OUT = "conversations whose question is nearly one that is held out"
Learn = Literal["all", "last"]
"""Which replies of a conversation are learned."""


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

    def sha256(self) -> str:
        """The hash of all messages of both sets."""
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
    read = _Read(data, learn)
    return _split(read) if held_out is None else _split_given(read, _Read(held_out, learn))


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


class _Read:
    """Conversations ready to be learned from, as they are read."""

    def __init__(self, data: Data, learn: Learn) -> None:
        self.data, self.sets, self.learn = data, read_sets(data), learn
        self.usable: StoredItems[Conversation] | ChosenItems[Conversation] = StoredItems[Conversation]()
        self._hashes = {name: array("Q") for name in ("whole", "asked", "without style")}  # of each usable one
        self._set_of = array("h")
        self.left_out: Counter[str] = Counter({ALL_MARKED: 0})
        self.odd: dict[str, OddOrder] = {}
        unread: Counter[str] = Counter()
        for number, one in enumerate(self.sets):
            for conversation in each_conversation(one.name, unread):
                self._add(conversation, number, self.usable)
        self.asked, self.without_style = (self._hashes_of(name) for name in ("asked", "without style"))
        self.set_of = np.array(self._set_of)
        self._leave_out_twins()
        self.left_out.update(count_unread(unread))

    def _add(self, conversation: Conversation, number: int, usable: StoredItems[Conversation]) -> None:
        add_oddities(conversation, self.odd)
        if not _has_a_reply_to_learn(conversation):
            self.left_out[ALL_MARKED] += 1
            return
        ended = until_last_reply(conversation)
        ready = _without_greeting(ended)
        self.left_out["messages after a last reply"] += len(conversation.messages) - len(ended.messages)
        self.left_out["greetings before a first question"] += ready is not ended
        asked = asked_of(ready)
        self._hashes["asked"].append(_number_of(hash_asked(asked)))
        self._hashes["without style"].append(_number_of(hash_asked(asked, style=False)))
        if len(self.sets) > 1:
            self._hashes["whole"].append(_number_of(hash_conversation(ready)))
        self._set_of.append(number)
        usable.append(_learning_the_last(ready) if self.learn == "last" else ready)

    def _hashes_of(self, name: str) -> np.ndarray:
        return np.array(self._hashes[name], dtype=np.uint64)

    def _leave_out_twins(self) -> None:
        """Keeps a conversation that stands in several sets in the first of them; refuses two sets of the same rows."""
        twins = find_twins(self.sets, self._hashes_of("whole"), self.set_of) if len(self.sets) > 1 else np.zeros(0, int)
        for number, count in enumerate(np.bincount(self.set_of[twins], minlength=len(self.sets)).tolist()):
            self.left_out[f"conversations of {self.sets[number].name} that stand in a set before it too"] += count
        if len(twins):
            kept = np.setdiff1d(np.arange(len(self.usable)), twins)
            self.usable = self.usable.only(kept)
            self.asked, self.without_style, self.set_of = (
                one[kept] for one in (self.asked, self.without_style, self.set_of)
            )

    def mixture(self, numbers: np.ndarray) -> Mixture | None:
        """Which set each of some conversations is of, where the sets are weighted.

        Raises:
            InputError: nothing of a set is among them.

        """
        return None if self.sets[0].weight is None else Mixture.of(self.sets, self.set_of[numbers])


def _split(read: _Read) -> ConversationSplits:
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


def _split_given(training: _Read, held_out: _Read) -> ConversationSplits:
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


def _apart(read: _Read, training: np.ndarray, held_out: Sequence[Conversation]) -> ConversationSplits:
    """The splits, without the conversations whose question is nearly a held-out one.

    Raises:
        InputError: nothing is left to learn from.

    """
    sample = evenly_spaced(training.tolist(), SAMPLE_OF_QUESTIONS)
    near = NearQuestions(map(_asked_text, held_out), map(_asked_text, read.usable.only(np.array(sample))))
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


def _learning_the_last(conversation: Conversation) -> Conversation:
    """The conversation, which ends with a reply to learn, with no other reply learned."""
    *before, last = conversation.messages
    read = (replace(one, weight=0.0) if one.role == "assistant" else one for one in before)
    return replace(conversation, messages=(*read, last))


def _without_greeting(conversation: Conversation) -> Conversation:
    """The conversation, whose first message is not learned where the assistant says it and nobody asked."""
    first, *others = conversation.messages
    if first.role != "assistant" or not any(one.role == "assistant" and one.learned for one in others):
        return conversation
    return replace(conversation, messages=(replace(first, weight=0.0), *others))


def _has_a_reply_to_learn(conversation: Conversation) -> bool:
    return any(message.role == "assistant" and message.learned for message in conversation.messages)


def _asked_text(conversation: Conversation) -> str:
    return asked_text(asked_of(conversation))


def _number_of(digest: bytes) -> int:
    """The first 64 bits, whose order is that of the digests."""
    return int.from_bytes(digest[:8], "big")
