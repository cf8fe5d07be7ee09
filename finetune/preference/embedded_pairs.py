"""Preference pairs about signatures and docstrings: the right answer against one that is wrong.

The wrong answer to a checkable question is, where there is one, another fact of the same signature: it stands in the
prompt and has the right form, so that only reading tells it from the right one. Else, and for questions about what a
function does, it is the answer to another question of the same kind. Every choice is a function of names alone.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from finetune.conversations.embedded_conversations import read_facts
from finetune.conversations.formats import Conversation, Message
from finetune.conversations.pairs import Pair
from finetune.conversations.splits import read_conversation_splits
from scratch_models.corpus.documentation import Document
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.embedded.default import EMBEDDED


def embedded_pairs() -> tuple[list[Pair], list[Pair]]:
    """The pairs to learn from and those held out, made of the embedded conversations."""
    corpus, splits = embedded_corpus(), read_conversation_splits(EMBEDDED)
    return (
        oppose(splits.training, answers_of_signatures(corpus.domain)),
        oppose(splits.held_out, answers_of_signatures(corpus.domain_held_out)),
    )


def answers_of_signatures(documents: Sequence[Document]) -> dict[str, list[str]]:
    """What each signature states, by the source of the conversation that asks about it.

    >>> answers_of_signatures([Document("m.f", "m", "function", "(x: int, y=2.5) -> str", "")])
    {'m.f (signature)': ['int', '2.5', 'str']}
    """
    return {f"{one.name} (signature)": [fact.answer for fact in read_facts(one)] for one in documents}


def oppose(conversations: Sequence[Conversation], stated: Mapping[str, Sequence[str]]) -> list[Pair]:
    r"""A pair of each conversation that a wrong answer is found for, in their order.

    >>> asked = Conversation(
    ...     (Message("user", "f(x: int, y=2.5)\n\nWhat is the type of x?"), Message("assistant", "int")),
    ...     "m.f (signature)",
    ...     "int",
    ... )
    >>> oppose([asked], {"m.f (signature)": ["int", "2.5"]})[0].rejected[0].content
    '2.5'
    """
    kinds = {kind: list(alike) for kind, alike in groupby(sorted(conversations, key=_kind), key=_kind)}
    followers = {
        one.source: alike[place + 1 :] + alike[:place]
        for alike in kinds.values()
        for place, one in enumerate(alike)
        if not _other_facts(one, stated)
    }
    pairs = []
    for conversation in conversations:
        wrong = _other_facts(conversation, stated) or _other_replies(conversation, followers[conversation.source])
        if wrong:
            pairs.append(_pair(conversation, wrong[len(conversation.source) % len(wrong)]))
    return pairs


def _pair(conversation: Conversation, wrong: str) -> Pair:
    *prompt, right = conversation.messages
    rejected = (Message("assistant", wrong),)
    return Pair(tuple(prompt), (right,), rejected, conversation.source, conversation.answer)


def _other_facts(conversation: Conversation, stated: Mapping[str, Sequence[str]]) -> list[str]:
    right = conversation.messages[-1].content
    return [answer for answer in stated.get(conversation.source, ()) if answer != right]


def _other_replies(conversation: Conversation, others: Sequence[Conversation]) -> list[str]:
    right = conversation.messages[-1].content
    return [one.messages[-1].content for one in others[:8] if one.messages[-1].content != right]


def _kind(conversation: Conversation) -> str:
    """What is asked for: the first words of the question, which stands in the last line."""
    question = conversation.messages[-2].content.rpartition("\n")[2]
    return " ".join(question.split()[:4]) if conversation.answer is not None else "purpose"
