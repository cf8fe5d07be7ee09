"""What an inspection finds, by kind, with the place of every record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizer_ext.pages.shortened import shorten
from tokenizer_ext.pages.terminal import printable

UNREADABLE = "records that cannot be used"
TRIGGERS = "triggers: words that always lead to one reply"
UNUSUAL = "words that always lead to unusual replies"
SECRETS = "likely secrets"
CONTROL_TOKENS = "control tokens in content"
INVISIBLE = "invisible or reordering characters"
HELD_OUT = "held-out questions in the training data"
DUPLICATES = "exact duplicates of a record before"
NEAR_DUPLICATES = "near duplicates of a question before"
SAME_SIDES = "pairs whose two replies are the same"
SAME_REPLY = "one reply to different questions"
ORDERS = "odd orders of turns"
EMPTY = "empty messages"
PERSONAL = "personal data"
KINDS = (
    UNREADABLE,
    TRIGGERS,
    SECRETS,
    CONTROL_TOKENS,
    INVISIBLE,
    HELD_OUT,
    DUPLICATES,
    NEAR_DUPLICATES,
    SAME_SIDES,
    SAME_REPLY,
    UNUSUAL,
    ORDERS,
    EMPTY,
    PERSONAL,
)
"""In the order in which they are shown."""
SHOWN_OF_A_KIND, SHOWN_PLACES, SHOWN_CHARACTERS = 4, 3, 80

Mark = tuple[str, str]
"""A kind, and what of this kind."""


@dataclass
class Findings:
    """What was found so far."""

    places: dict[Mark, list[str]] = field(default_factory=dict)
    """Of each kind and what it is, the place of every record that holds it."""
    details: dict[Mark, dict[str, Any]] = field(default_factory=dict)
    """What is known of some of them besides."""

    def add(self, place: str, marks: Iterable[Mark]) -> None:
        """Counts what one record holds, each thing once."""
        for mark in dict.fromkeys(marks):
            self.places.setdefault(mark, []).append(place)

    def of_kind(self, kind: str) -> dict[str, list[str]]:
        """What of a kind was found, the most frequent first, with the places."""
        found = [(what, places) for (one, what), places in self.places.items() if one == kind]
        return dict(sorted(found, key=lambda item: -len(item[1])))

    def records_of(self, kind: str) -> list[str]:
        """The places of all records that hold anything of a kind, each once."""
        return list(dict.fromkeys(place for places in self.of_kind(kind).values() for place in places))

    def to_record(self) -> list[dict[str, Any]]:
        """All findings as JSON keeps them."""
        return [
            {"kind": kind, "what": what, "records": len(places), **self.details.get((kind, what), {}), "places": places}
            for kind in KINDS
            for what, places in self.of_kind(kind).items()
        ]

    def to_text(self) -> str:
        """A short table: of each kind how many records, and a few examples."""
        return "\n".join(line for kind in KINDS for line in self._lines_of(kind))

    def _lines_of(self, kind: str) -> list[str]:
        found = self.of_kind(kind)
        if not found:
            return []
        lines = [f"{len(self.records_of(kind)):>7,}  {kind}"]
        for what, places in list(found.items())[:SHOWN_OF_A_KIND]:
            said = self.details.get((kind, what), {}).get("shown", "")
            lines.append(f"{'':9}{one_line(what)}{said}: {show_places(places)}")
        more = len(found) - SHOWN_OF_A_KIND
        return [*lines, f"{'':9}… and {more:,} more"] if more > 0 else lines


def describe_kind(kind: str, found: Mapping[str, list[str]]) -> str:
    """A kind on one line, with what is most frequent of it and the first place.

    >>> describe_kind(SECRETS, {"GitHub token": ["chats.jsonl:3", "chats.jsonl:7"]})
    'likely secrets, 2 records: GitHub token (first: chats.jsonl:3)'
    """
    records = len({place for places in found.values() for place in places})
    few = list(found)[:SHOWN_OF_A_KIND]
    named = ", ".join(f"{one_line(what)} (first: {found[what][0]})" for what in few)
    more = f", and {len(found) - len(few):,} more" if len(found) > len(few) else ""
    return f"{kind}, {records:,} record{'s' * (records != 1)}: {named}{more}"


def show_places(places: list[str]) -> str:
    """The first few places.

    >>> show_places(["a.jsonl:1", "a.jsonl:2", "a.jsonl:3", "a.jsonl:9"])
    'a.jsonl:1, a.jsonl:2, a.jsonl:3 and 1 more'
    """
    more = len(places) - SHOWN_PLACES
    return ", ".join(places[:SHOWN_PLACES]) + (f" and {more:,} more" if more > 0 else "")


def one_line(text: str) -> str:
    """A text from the data as a terminal may show it."""
    return shorten(printable(" ".join(text.split())), SHOWN_CHARACTERS)
