"""Conversations as they are read from one or several sets: made ready to be learned from, what is left out counted."""

from array import array
from collections import Counter
from dataclasses import replace
from typing import Literal

import numpy as np

from finetune.conversations.formats import Conversation, each_conversation
from finetune.conversations.keys import count_unread
from finetune.conversations.messages import (
    asked_of,
    dump_conversation,
    hash_asked,
    hash_conversation,
    load_conversation,
    until_last_reply,
)
from finetune.conversations.orders import OddOrder, add_oddities
from finetune.files.stored_items import Codec, Stored, StoredItems
from finetune.files.weighted_sets import Data, Mixture, find_twins, read_sets

ALL_MARKED = "conversations whose replies are all marked weight 0 or train false"
CONVERSATIONS = Codec(dump_conversation, load_conversation)
Learn = Literal["all", "last"]
"""Which replies of a conversation are learned."""


class Reading:
    """Conversations ready to be learned from, as they are read."""

    def __init__(self, data: Data, learn: Learn) -> None:
        self.data, self.sets, self.learn = data, read_sets(data), learn
        self.usable: Stored[Conversation] = StoredItems(CONVERSATIONS)
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


def _number_of(digest: bytes) -> int:
    """The first 64 bits, whose order is that of the digests."""
    return int.from_bytes(digest[:8], "big")
