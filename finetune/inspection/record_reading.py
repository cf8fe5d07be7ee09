"""Records as an inspection reads them: one that cannot be used is counted, and the next is read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.formats import Conversation, to_conversation
from finetune.conversations.messages import hash_messages
from finetune.conversations.near_questions import asked_text
from finetune.conversations.pairs import RATED, SIDES, to_pair
from finetune.conversations.rated_replies import from_openai
from finetune.files.records import parse_record, shown_records
from finetune.files.stored_items import Codec
from finetune.inspection.findings import SAME_SIDES, UNREADABLE, Findings

LONGEST_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class Turn:
    """What was said before a reply of the assistant, since the one before, and the reply."""

    asked: str
    reply: str


@dataclass(frozen=True)
class Record:
    """What of a record is compared with that of others."""

    place: str
    asked: str
    """All that is not said by the assistant or the system."""
    turns: tuple[Turn, ...]


def _write(record: Record) -> bytes:
    return json.dumps([record.place, record.asked, [(one.asked, one.reply) for one in record.turns]]).encode()


def _read(content: bytes) -> Record:
    place, asked, turns = json.loads(content)
    return Record(place, asked, tuple(Turn(*turn) for turn in turns))


RECORDS = Codec(_write, _read)


def read_conversations_and_count(data: str, findings: Findings) -> Iterator[list[Conversation]]:
    """The conversations of each record: one, or of a preference pair both; what cannot be used is among the findings.

    Raises:
        InputError: nothing can be read, or no record can be used.

    """
    first: InputError | None = None
    used = 0
    for place, content in shown_records(data, "records"):
        try:
            found = _to_conversations(parse_record(place, content), place, findings)
        except InputError as error:
            first = first or error
            reason = str(error).removeprefix(f"{place}: ").removeprefix(place)
            findings.add(place, [(UNREADABLE, reason[:LONGEST_REASON_CHARACTERS])])
            continue
        used += 1
        yield found
    if not used:
        raise first or InputError(f"{data}: found 0 records, expected at least one JSON object")


def _to_conversations(record: Mapping[str, object], place: str, findings: Findings) -> list[Conversation]:
    record = from_openai(record, place)
    given = {key for key, value in record.items() if value is not None}
    if not given.issuperset(SIDES) and RATED not in given:
        return [to_conversation(record, place)]
    rated = record.get(RATED)
    if not given.intersection(SIDES) and isinstance(rated, list) and len(rated) < len(SIDES):
        raise InputError(f"{place}: {RATED} holds {len(rated)}, expected two rated replies or more")
    pair = to_pair(record, place)
    if pair.chosen == pair.rejected:
        findings.add(place, [(SAME_SIDES, "chosen is rejected")])
    return [pair.with_chosen(), pair.with_rejected()]


def to_record(conversation: Conversation) -> Record:
    """What of a conversation is compared with that of others."""
    turns, before = [], list[str]()
    for message in conversation.messages:
        if message.role == "assistant":
            turns.append(Turn("\n".join(before), message.said()))
            before = []
        else:
            before.append(message.content)
    others = [message for message in conversation.messages if message.role != "assistant"]
    return Record(conversation.source.partition(", ")[0], asked_text(others), tuple(turns))


def hash_record(conversations: list[Conversation]) -> int:
    """The first 64 bits of the sha256 of all that a record says."""
    messages = [one.messages for one in conversations]
    return int(hash_messages(messages, [one.tools for one in conversations])[:16], 16)
