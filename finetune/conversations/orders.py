"""Odd orders of turns: read as they are, since many sets hold some, and counted with the first place."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from finetune.conversations.messages import Conversation

TWICE = {
    "user": "two turns of the user in a row",
    "assistant": "two turns of the assistant in a row",
}


@dataclass(frozen=True)
class OddOrder:
    """How many conversations have an oddity, and where the first of them stands."""

    conversations: int
    first_place: str


def oddities(conversation: Conversation) -> list[str]:
    """What is odd in the order of a conversation's turns.

    >>> from finetune.conversations.messages import Message
    >>> oddities(Conversation((Message("user", "1+1?"), Message("user", "Well?"), Message("assistant", "2")), "x:1"))
    ['two turns of the user in a row']
    """
    turns = [message for message in conversation.messages if message.role != "system"]
    found = [TWICE[one.role] for one, after in pairwise(turns) if one.role == after.role and one.role in TWICE]
    if turns[0].role == "assistant":
        found.append("a first turn by the assistant")
    if turns[-1].role == "user":
        found.append("a last turn by the user")
    calls = 0
    for message in turns:
        if message.role == "tool" and not calls:
            found.append("a tool's message that answers no call")
        calls = len(message.tool_calls) if message.role == "assistant" else calls
    if any(one.tool_calls and after.role != "tool" for one, after in pairwise(turns)):
        found.append("a call that no tool answers")
    return list(dict.fromkeys(found))


def add_oddities(conversation: Conversation, found: dict[str, OddOrder]) -> None:
    """Counts what is odd in one more conversation."""
    add_found(conversation.source, oddities(conversation), found)


def add_found(place: str, there: Iterable[str], found: dict[str, OddOrder]) -> None:
    """Counts what is odd in one more place.

    >>> found = {"a last turn by the user": OddOrder(1, "pairs.jsonl:7")}
    >>> add_found("pairs.jsonl:9", ["a last turn by the user"], found)
    >>> found
    {'a last turn by the user': OddOrder(conversations=2, first_place='pairs.jsonl:7')}
    """
    for oddity in there:
        known = found.get(oddity, OddOrder(0, place))
        found[oddity] = OddOrder(known.conversations + 1, known.first_place)


def add_up(odd: Mapping[str, OddOrder], of_another: Mapping[str, OddOrder]) -> dict[str, OddOrder]:
    """The counts of two sets together, with the first place of the first that has one."""
    numbers = Counter({what: one.conversations for what, one in odd.items()})
    numbers.update({what: one.conversations for what, one in of_another.items()})
    return {what: OddOrder(number, {**of_another, **odd}[what].first_place) for what, number in numbers.items()}


def describe_oddities(odd: Mapping[str, OddOrder], of_what: str = "conversations") -> str:
    """The counts on one line.

    >>> describe_oddities({"a last turn by the user": OddOrder(2, "chats.jsonl:7")})
    '2 conversations with a last turn by the user (first: chats.jsonl:7)'
    """
    return "; ".join(
        f"{one.conversations:,} {of_what} with {what} (first: {one.first_place})" for what, one in odd.items()
    )
