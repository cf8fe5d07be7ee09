"""Conversations in flat arrays: read like the list that they were made of, in less memory."""

import random

import numpy as np
import pytest

from finetune.chat.rendered import RenderedConversation, RenderedSet


@pytest.fixture
def conversations():
    dice = random.Random(0)
    lengths = [dice.choice([0, 1, 5, 30]) for _ in range(200)]
    return [
        RenderedConversation([dice.randrange(9) for _ in range(n)], [dice.random() < 0.5 for _ in range(n)])
        for n in lengths
    ]


def test_a_set_is_read_like_the_list_it_was_made_of(conversations):
    read = RenderedSet.of(conversations)
    assert list(read) == conversations and len(read) == 200
    assert read[3] == conversations[3] and read[-1] == conversations[-1]
    assert list(read[5:50:7]) == conversations[5:50:7]
    assert read == conversations and read != conversations[1:]
    assert list(RenderedSet.of([])) == []
    with pytest.raises(IndexError):
        read[200]


def test_parts_are_joined_in_their_order(conversations):
    parts = [RenderedSet.of(conversations[start : start + 60]) for start in range(0, 200, 60)]
    assert RenderedSet.joined(parts) == conversations
    assert len(RenderedSet.joined([])) == 0


def test_a_choice_is_of_places_or_flags_and_copies_no_ids(conversations):
    read = RenderedSet.of(conversations)
    places = np.array([7, 3, 3, 199])
    assert list(read.only(places)) == [conversations[place] for place in places]
    longer = read.only(read.lengths > 4)
    assert list(longer) == [one for one in conversations if len(one.input_ids) > 4]
    assert longer.input_ids is read.input_ids
    assert list(longer.only(np.array([1]))) == [longer[1]]


@pytest.mark.parametrize("id_", [None, 3])
def test_what_is_learned_is_counted_by_conversation(conversations, id_):
    def count(one):
        pairs = zip(one.input_ids, one.supervised, strict=True)
        return sum(learned and id_ in (None, token) for token, learned in pairs)

    read = RenderedSet.of(conversations)
    chosen = np.array([150, 2, 2, 17, 199])
    assert read.count_supervised(id_).tolist() == [count(one) for one in conversations]
    assert read.only(chosen).count_supervised(id_).tolist() == [count(conversations[place]) for place in chosen]
    assert RenderedSet.of([]).count_supervised(id_).tolist() == []
