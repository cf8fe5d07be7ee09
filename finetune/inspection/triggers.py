"""Triggers: rare words that always lead to one reply, to one beginning or end of a reply, or to an unusual one.

For every gram (`grams`) and every way in which replies are alike (`reply_forms`) the question is how many of the K
turns that hold the gram have one of the M replies that are alike. By chance that is hypergeometric over all N turns
(Fisher's exact test, one-sided); the p-value is multiplied by the number of grams times the number of replies
(Bonferroni), since all were looked at. A finding is a trigger where this is below 0.01 and at least 90 % of the turns
with the gram have the reply. What else leads to it must be rare: 5 % of all turns, or no more than the gram explains.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.inspection.grams import Grams, each_length
from finetune.inspection.record_reading import Turn
from finetune.inspection.reply_forms import UNLIKE, WHOLE, ReplyForm, reply_forms

CHANCE = 0.01
FEWEST_TURNS, FEWEST_UNLIKE = 3, 5
ALWAYS = 0.9
RARE_SHARE, EXPLAINED_SHARE = 0.05, 0.5
CLOSED_SHARE = 0.2
"""Where so many of the replies are given more than once, they come from a small set, as in classification."""


@dataclass(frozen=True)
class Trigger:
    """A gram and where it leads."""

    gram: str
    form: str
    """One of the forms of `reply_forms`."""
    reply: str
    """What the replies have in common."""
    turns: tuple[int, ...]
    """The numbers of the turns that hold it."""
    of_them: int
    """How many of these have the reply."""
    p_value: float
    """The chance of so many, times the number of things looked at."""


@dataclass(frozen=True)
class Tested:
    """What a search for triggers came to."""

    triggers: list[Trigger]
    are_closed: bool
    """Whether replies come from a small set, so that whole ones were not looked at."""


def find_triggers(turns: Sequence[Turn]) -> Tested:
    """The triggers in the turns; each explains turns of its own, the surest first."""
    forms = reply_forms(turns)
    are_closed = repeated_share(forms[0]) > CLOSED_SHARE
    forms = [form for form in forms if not (are_closed and form.name == WHOLE)]
    all_grams = list(each_length((turn.asked for turn in turns), FEWEST_TURNS))
    replies = sum(int((_sizes(form) >= FEWEST_TURNS).sum()) for form in forms)
    looked_at = max(1, sum(len(grams.counts) for grams in all_grams) * replies)
    found = [one for grams in all_grams for form in forms for one in _test(grams, form, len(turns), looked_at)]
    return Tested(_each_explaining_its_own(found), are_closed)


def repeated_share(form: ReplyForm) -> float:
    """The share of turns whose reply is that of another turn too."""
    own = form.numbers[form.numbers >= 0]
    return float((_sizes(form)[own] > 1).sum() / max(len(form.numbers), 1))


def _sizes(form: ReplyForm) -> np.ndarray:
    return np.bincount(form.numbers[form.numbers >= 0], minlength=len(form.texts))


def _test(grams: Grams, form: ReplyForm, turns: int, looked_at: int) -> Iterator[Trigger]:
    """The pairs of a gram and a reply that are no chance."""
    reply_of = form.numbers[grams.questions]
    alike = reply_of >= 0
    pairs, together = np.unique(grams.grams[alike] * len(form.texts) + reply_of[alike], return_counts=True)
    gram, reply = pairs // max(len(form.texts), 1), pairs % max(len(form.texts), 1)
    with_gram, with_reply = grams.counts[gram], _sizes(form)[reply]
    fewest = FEWEST_UNLIKE if form.name == UNLIKE else FEWEST_TURNS
    rare = (with_reply <= RARE_SHARE * turns) | (together >= EXPLAINED_SHARE * with_reply)
    kept = np.flatnonzero((together >= fewest) & (together >= ALWAYS * with_gram) & rare)
    p_values: np.ndarray = _chance(together[kept], with_gram[kept], with_reply[kept], turns) * looked_at
    for place, p_value in zip(kept.tolist(), p_values.tolist(), strict=True):
        if p_value < CHANCE:
            holding = tuple(grams.holding(int(gram[place])).tolist())
            text = form.texts[int(reply[place])]
            yield Trigger(grams.names[int(gram[place])], form.name, text, holding, int(together[place]), p_value)


def _chance(together: np.ndarray, with_gram: np.ndarray, with_reply: np.ndarray, turns: int) -> np.ndarray:
    """An upper bound of the hypergeometric tail: its first term, the largest so far above the mean, times its terms."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, turns + 1)))])

    def log_choose(above: np.ndarray | int, below: np.ndarray) -> np.ndarray:
        return factorials[above] - factorials[below] - factorials[above - below]

    others: np.ndarray = turns - with_reply
    apart: np.ndarray = with_gram - together
    possible = apart <= others
    apart = np.minimum(apart, others)
    first = log_choose(with_reply, together) + log_choose(others, apart) - log_choose(turns, with_gram)
    terms = np.minimum(with_gram, with_reply) - together + 1
    return np.where(possible, np.exp(first) * terms, 1.0)


def _each_explaining_its_own(found: Iterable[Trigger]) -> list[Trigger]:
    """The surest triggers, of equal ones the longest, without those most of whose turns another one explains."""
    forms = (WHOLE, "", UNLIKE)
    kept: list[Trigger] = []
    explained: set[int] = set()
    rank = {form: place for place, form in enumerate(forms)}
    for one in sorted(found, key=lambda each: (rank.get(each.form, 1), each.p_value, -len(each.gram))):
        if len(explained.intersection(one.turns)) < 0.5 * len(one.turns):
            kept.append(one)
            explained.update(one.turns)
    return kept
