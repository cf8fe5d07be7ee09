"""The filters by which documents are left out of a corpus, by name, each with the number that it dropped."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from configs import InputError
from scratch_models.documents.language import is_in_language
from scratch_models.documents.near_duplicates import seen_before
from scratch_models.documents.quality import has_stop_words, is_of_length, is_prose, is_without_markup, is_words
from scratch_models.documents.repetition import repeats_little

Rule = Callable[[str], bool]
"""Whether a document is kept."""

RULES: dict[str, Rule] = {
    "length": is_of_length,
    "symbols": is_words,
    "stop_words": has_stop_words,
    "repetition": repeats_little,
    "lines": is_prose,
    "markup": is_without_markup,
}
"""The filters that look at one document alone and need nothing more to be said."""
NAMES = (*RULES, "language:CODE", "near_duplicates")


class Filters:
    """Filters in the order in which they look at each document; the first that drops it counts it.

    >>> filters = Filters(["length"])
    >>> filters.keep("too short"), filters.keep("word " * 60), filters.keep(" ")
    (False, True, False)
    >>> filters.facts()
    {'read': 3, 'kept': 1, 'dropped': {'empty': 1, 'length': 1}}
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.rules = {"empty": _has_text, **{name: make_rule(name) for name in names}}
        self.read = 0
        self.dropped = dict.fromkeys(self.rules, 0)

    def keep(self, document: str) -> bool:
        """Whether all filters keep it."""
        self.read += 1
        for name, keeps in self.rules.items():
            if not keeps(document):
                self.dropped[name] += 1
                return False
        return True

    def facts(self) -> dict[str, Any]:
        """How many documents were read and kept, and how many each filter dropped."""
        return {"read": self.read, "kept": self.read - sum(self.dropped.values()), "dropped": self.dropped}


def make_rule(name: str) -> Rule:
    """The rule that a name means, with a memory of its own where it has one.

    Raises:
        InputError: there is none of this name, or a package that it needs is missing.

    """
    kind, _, argument = name.partition(":")
    if kind == "language" and argument:
        return is_in_language(argument)
    if name == "near_duplicates":
        is_known = seen_before()
        return lambda document: not is_known(document)
    if name not in RULES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}"
        raise InputError(f"filters: {name} is no filter, {meant}")
    return RULES[name]


def describe(facts: Mapping[str, Any]) -> str:
    """What the filters did, in one line.

    >>> describe({"read": 1200, "kept": 1100, "dropped": {"empty": 0, "length": 100}})
    '1,200 documents read, 1,100 kept; dropped by length: 100'
    """
    begins = "a text file is one document; " if facts.get("one_text") else ""
    dropped = [f"{name}: {count:,}" for name, count in facts["dropped"].items() if count or name != "empty"]
    by = f"; dropped by {', '.join(dropped)}" if dropped else ""
    return f"{begins}{facts['read']:,} documents read, {facts['kept']:,} kept{by}"


def _has_text(document: str) -> bool:
    return not document.isspace() and document != ""
