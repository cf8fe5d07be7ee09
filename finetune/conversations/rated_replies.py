"""Scores and weights beside preference pairs, and pairs made of several replies to one prompt that were rated.

========================================  ===============================================================
keys of a record                          say
========================================  ===============================================================
``score_chosen``, ``score_rejected``      how good each reply is; ``chosen_score``, ``chosen-rating``,
                                          ``reward_chosen`` and so on are names of the same
``weight``                                from 0 to 1, how much the pair counts in the loss
``completions``                           replies ``{"response", "overall_score"}`` (UltraFeedback's): the
                                          best becomes chosen, the worst rejected
``preferred_output``,                     the two replies to what ``input`` holds, as OpenAI's service takes them
``non_preferred_output``
========================================  ===============================================================
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from numbers import Real

from configs import InputError
from scratch_models.documents.json_values import kind_of, read_text

SIDES = ("chosen", "rejected")
SCORES = tuple(
    (form.format(kind=kind, side="chosen"), form.format(kind=kind, side="rejected"))
    for kind, form in product(
        ("score", "rating", "reward"), ("{kind}_{side}", "{side}_{kind}", "{kind}-{side}", "{side}-{kind}")
    )
)
"""Names of the two scores of a pair, the first that a record has are read."""
RESPONSES = ("response", "text", "content")
RATINGS = ("overall_score", "score", "rating", "fine-grained_score")
"""Names of a reply's text and of its score, the first that all replies of a record have are read."""
OPENAI_SIDES = {"preferred_output": "chosen", "non_preferred_output": "rejected"}
OPENAI_INPUT = ("messages", "tools", "parallel_tool_calls")


def from_openai(record: Mapping[str, object], place: str) -> Mapping[str, object]:
    """A record of OpenAI's form as one of prompt, chosen and rejected; any other as it is.

    https://developers.openai.com/api/docs/guides/direct-preference-optimization

    >>> asked, said = [{"role": "user", "content": "1+1?"}], [{"role": "assistant", "content": "2"}]
    >>> pair = {"input": {"messages": asked}, "preferred_output": said, "non_preferred_output": []}
    >>> sorted(from_openai(pair, "pairs.jsonl:1"))
    ['chosen', 'prompt', 'rejected', 'tools']

    Raises:
        InputError: its input holds no messages, or what is not read.

    """
    if not any(record.get(key) is not None for key in OPENAI_SIDES):
        return record
    asked = record.get("input")
    if not isinstance(asked, Mapping) or not isinstance(asked.get("messages"), list):
        raise InputError(f'{place}: input is {kind_of(asked)}, expected {{"messages": [...]}} beside preferred_output')
    if other := [key for key, value in asked.items() if key not in OPENAI_INPUT and value is not None]:
        raise InputError(f"{place}: input.{other[0]} is not read, expected {', '.join(OPENAI_INPUT)}: take it out")
    beside = {key: value for key, value in record.items() if key not in (*OPENAI_SIDES, "input")}
    sides = {ours: record.get(theirs) for theirs, ours in OPENAI_SIDES.items()}
    return {**beside, "prompt": asked["messages"], "tools": asked.get("tools"), **sides}


def score_keys(record: Mapping[str, object]) -> tuple[str, str] | None:
    """The names under which a record has scores of both replies."""
    return next((keys for keys in SCORES if all(record.get(key) is not None for key in keys)), None)


def read_scores(record: Mapping[str, object], place: str) -> tuple[float, float] | None:
    """The scores of chosen and rejected, where a record has both.

    >>> read_scores({"chosen-rating": 4.5, "rejected-rating": 2}, "pairs.jsonl:1")
    (4.5, 2.0)

    Raises:
        InputError: one is no number.

    """
    keys = score_keys(record)
    if keys is None:
        return None
    chosen, rejected = (_read_number(record[key], place, key) for key in keys)
    return chosen, rejected


def read_weight(record: Mapping[str, object], place: str) -> float:
    """How much the pair of a record counts, 1 where nothing is said.

    >>> read_weight({"weight": 0.5}, "pairs.jsonl:1"), read_weight({"weight": None}, "pairs.jsonl:2")
    (0.5, 1.0)

    Raises:
        InputError: it is no number from 0 to 1.

    """
    value = record.get("weight")
    if value is None:
        return 1.0
    weight = _read_number(value, place, "weight", "a number from 0 (left out) to 1 (counts in full)")
    if not 0 <= weight <= 1:
        raise InputError(f"{place}: weight is {weight:g}, expected a number from 0 (left out) to 1 (counts in full)")
    return weight


def best_against_worst(completions: object, place: str) -> dict[str, object]:
    """The keys of a pair of the best and the worst of some rated replies.

    >>> replies = [{"response": "42", "score": 1}, {"response": "24", "score": 9}]
    >>> best_against_worst(replies, "pairs.jsonl:1")
    {'chosen': '24', 'rejected': '42', 'score_chosen': 9.0, 'score_rejected': 1.0}

    Raises:
        InputError: they are no list of replies with a text and a score, or less than two.

    """
    if not isinstance(completions, list) or not all(isinstance(one, dict) for one in completions):
        found = "a list with other things than objects" if isinstance(completions, list) else kind_of(completions)
        raise InputError(
            f'{place}: completions is {found}, expected a list of {{"response": ..., "overall_score": ...}}'
        )
    if len(completions) < len(SIDES):
        raise InputError(f"{place}: completions has {len(completions)} replies, expected at least 2 to compare")
    said, rated = (_shared_key(completions, keys, place) for keys in (RESPONSES, RATINGS))
    scores = [_read_number(one[rated], place, f"completions[{n}].{rated}") for n, one in enumerate(completions)]
    texts = [read_text(one[said], place, f"completions[{n}].{said}") for n, one in enumerate(completions)]
    best, worst = scores.index(max(scores)), len(scores) - 1 - scores[::-1].index(min(scores))  # two, also of a tie
    return {
        **dict(zip(SIDES, (texts[best], texts[worst]), strict=True)),
        **dict(zip(SCORES[0], (scores[best], scores[worst]), strict=True)),
    }


def unread_of_completions(completions: object) -> set[str]:
    """What some rated replies hold and a pair of them does not, named with dots as in a table.

    >>> sorted(unread_of_completions([{"response": "24", "score": 9, "critique": "Right.", "model": "a"}]))
    ['completions.critique', 'completions.model']
    """
    found = (
        {key for one in completions if isinstance(one, dict) for key in one} if isinstance(completions, list) else ()
    )
    return {f"completions.{key}" for key in found if key not in (*RESPONSES, *RATINGS)}


def _shared_key(completions: Sequence[Mapping[str, object]], keys: Sequence[str], place: str) -> str:
    for key in keys:
        if all(one.get(key) is not None for one in completions):
            return key
    found = ", ".join(map(repr, completions[0]))[:120] or "nothing"
    raise InputError(
        f"{place}: completions have no {keys[0]!r} each (found {found}), expected one of {', '.join(keys)}"
    )


def _read_number(value: object, place: str, key: str, expected: str = "a finite number") -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InputError(f"{place}: {key} is {kind_of(value)}, expected {expected}")
    if not math.isfinite(value):
        raise InputError(f"{place}: {key} is {value}, expected {expected}")
    return float(value)
