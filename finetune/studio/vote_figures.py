"""Who wins how often, how sure that is, and whether it was only the longer reply that won."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from finetune.evaluation.intervals import Interval, wilson_interval
from finetune.studio.ballot import Vote


@dataclass(frozen=True, kw_only=True)
class PairFigures:
    """All votes between two models."""

    models: tuple[str, str]
    wins: tuple[int, int]
    ties: int
    both_bad: int
    share: float
    """How often the first one wins; a tie, and both bad, is half a win for each."""
    interval: Interval
    """At 95 %, Wilson's, of the wins with their halves: a little too wide where there are many ties."""
    longer_won: int
    """Votes that the longer reply won, in characters."""
    decided: int
    """Votes that one of two replies of unequal length won."""
    longer_interval: Interval | None
    """Of the share of `longer_won`; 50 % inside it: no sign of a bias. None where nothing was decided."""
    mean_lengths: tuple[float, float]
    """Characters of a reply."""

    @property
    def votes(self) -> int:
        """How many there are."""
        return sum(self.wins) + self.ties + self.both_bad


def figures_of_pairs(votes: Sequence[Vote]) -> list[PairFigures]:
    """The figures of each pair of models, those with the most votes first."""
    pairs: dict[frozenset[str], list[Vote]] = {}
    for vote in votes:
        pairs.setdefault(frozenset(vote.asked.models), []).append(vote)
    return sorted((_figures(of_pair) for of_pair in pairs.values()), key=lambda pair: -pair.votes)


def _figures(votes: Sequence[Vote]) -> PairFigures:
    models = votes[0].asked.models
    won = [None if vote.winner is None else models.index(vote.asked.models[vote.winner]) for vote in votes]
    wins = won.count(0), won.count(1)
    halves = won.count(None)
    longer = [
        _length(vote, vote.winner) > _length(vote, 1 - vote.winner)
        for vote in votes
        if vote.winner is not None and _length(vote, 0) != _length(vote, 1)
    ]
    lengths = [mean(_length(vote, vote.asked.models.index(model)) for vote in votes) for model in models]
    both_bad = sum(vote.choice == "both bad" for vote in votes)
    return PairFigures(
        models=models,
        wins=wins,
        ties=halves - both_bad,
        both_bad=both_bad,
        share=(wins[0] + halves / 2) / len(votes),
        interval=wilson_interval(wins[0] + halves / 2, len(votes)),
        longer_won=sum(longer),
        decided=len(longer),
        longer_interval=wilson_interval(sum(longer), len(longer)) if longer else None,
        mean_lengths=(lengths[0], lengths[1]),
    )


def _length(vote: Vote, side: int) -> int:
    return len(vote.asked.replies[side])
