"""The preference pairs of a run: those to learn from and those held out."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from configs import InputError
from finetune.conversations.messages import hash_asked, hash_messages
from finetune.conversations.near_questions import NearQuestions, asked_text
from finetune.conversations.orders import OddOrder, add_found, add_up, oddities
from finetune.conversations.pairs import Pair, read_pairs
from finetune.conversations.splits import HELD_OUT_EVERY
from finetune.files.weighted_sets import Data, Mixture, WeightedSet, describe_data, find_twins, read_sets
from finetune.preference.embedded_pairs import embedded_pairs
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.embedded.default import EMBEDDED

NEARLY_HELD_OUT = "pairs whose prompt is nearly one that is held out"
SAMPLE = 1000
"""Prompts to learn from that show what many prompts say alike."""
USELESS: dict[str, Callable[[Pair], bool]] = {
    "pairs whose two replies are the same": lambda pair: pair.chosen == pair.rejected,
    "pairs of weight 0": lambda pair: pair.weight == 0,
    "pairs whose replies have equal scores": lambda pair: pair.scores is not None and pair.scores[0] == pair.scores[1],
    "pairs whose chosen reply has the lower score": lambda pair: (
        pair.scores is not None and pair.scores[0] < pair.scores[1]
    ),
}
"""Pairs that do not say what is preferred; one that is several of these counts as the first."""


@dataclass(frozen=True)
class PreferenceSplits:
    """Two sets without a prompt in common, or nearly."""

    training: list[Pair]
    held_out: list[Pair]
    left_out: Mapping[str, int]
    """What is in neither set -> how often."""
    odd: Mapping[str, OddOrder] = field(default_factory=dict)
    """What is odd in the order of turns, and read as it is."""
    mixture: Mixture | None = None
    """Which of several weighted sets each pair to learn from is of."""

    def sha256(self) -> str:
        """The hash of all messages of both sets, and of what pairs weigh."""
        pairs = (*self.training, *self.held_out)
        parts = (part for pair in pairs for part in (pair.prompt, pair.chosen, pair.rejected))
        messages = hash_messages(parts, tools=(pair.tools for pair in pairs))
        weights = [pair.weight for pair in pairs]
        if all(weight == 1 for weight in weights):
            return messages
        return hashlib.sha256(f"{messages} {weights}".encode()).hexdigest()


def read_preference_splits(data: Data, held_out: str | None = None) -> PreferenceSplits:
    """The pairs named by `data`: `embedded`, or one or several of files, folders and Hub names.

    Those held out are named by `held_out`, else they are those of one prompt in twenty.

    Raises:
        InputError: the data cannot be read, or is too little to hold anything out.

    """
    if data == EMBEDDED:
        if held_out is not None:
            raise InputError(f"held_out: found {held_out}, expected none: the embedded pairs have their own")
        return PreferenceSplits(*embedded_pairs(), left_out={})
    read, sets = _read(data)
    name = describe_data(data)
    splits = split_pairs(name, read) if held_out is None else split_given(name, read, held_out, _read(held_out)[0])
    return replace(splits, mixture=sets.mixture(splits.training))


@dataclass(frozen=True)
class ReadPairs:
    """Pairs that say what is preferred, and what of their set does not."""

    usable: list[Pair]
    left_out: Counter[str]
    odd: dict[str, OddOrder]
    """What is odd in the order of turns of the set's pairs, useless ones too."""


@dataclass(frozen=True)
class _Sets:
    """Which of several sets each pair is of, by its place."""

    sets: Sequence[WeightedSet]
    set_of: Mapping[str, int]

    def mixture(self, pairs: Sequence[Pair]) -> Mixture | None:
        """Of some pairs, where the sets are weighted."""
        if self.sets[0].weight is None:
            return None
        return Mixture.of(self.sets, np.array([self.set_of[pair.source] for pair in pairs]))


def _read(data: Data) -> tuple[ReadPairs, _Sets]:
    """The pairs of all sets; one that stands in several is read of the first of them and counted."""
    left_out: Counter[str] = Counter()
    sets = read_sets(data)
    found = [(pair, number) for number, one in enumerate(sets) for pair in read_pairs(one.name, left_out)]
    if len(sets) > 1:
        hashes = np.array([_hash_pair(pair) for pair, _ in found], dtype=np.uint64)
        twins = find_twins(sets, hashes, np.array([number for _, number in found]))
        for place in reversed(twins.tolist()):
            _, number = found.pop(place)
            left_out[f"pairs of {sets[number].name} that stand in a set before it too"] += 1
    read = choose_usable([pair for pair, _ in found], left_out)
    return read, _Sets(sets, {pair.source: number for pair, number in found})


def _hash_pair(pair: Pair) -> int:
    said = hash_messages((pair.prompt, pair.chosen, pair.rejected), tools=[pair.tools])
    return int(said[:16], 16)


def choose_usable(pairs: Sequence[Pair], left_out: Mapping[str, int] | None = None) -> ReadPairs:
    """The pairs that say what is preferred; the others are counted, each kind with the first place."""
    counts, useless = Counter(left_out or {}), set()
    for what, is_meant in USELESS.items():
        found = [place for place, pair in enumerate(pairs) if place not in useless and is_meant(pair)]
        if found:
            counts[f"{what} (first: {pairs[found[0]].source})"] = len(found)
        useless.update(found)
    usable = [pair for place, pair in enumerate(pairs) if place not in useless]
    odd: dict[str, OddOrder] = {}
    for pair in pairs:
        both = (*oddities(pair.with_chosen()), *oddities(pair.with_rejected()))
        add_found(pair.source, dict.fromkeys(both), odd)
    return ReadPairs(usable, counts, odd)


def split_pairs(data: str, read: ReadPairs) -> PreferenceSplits:
    """One prompt in twenty is held out, chosen by its hash.

    So all pairs of a prompt lie on one side, and the order of the lines has no effect. Pairs whose prompt is nearly one
    that is held out are left out.

    Raises:
        InputError: there are too few prompts.

    """
    prompts = sorted({hash_asked(pair.prompt) for pair in read.usable})
    if len(prompts) < HELD_OUT_EVERY:
        beside = "".join(f"; left out: {count} {what}" for what, count in read.left_out.items() if "first: " in what)
        raise InputError(
            f"{data}: {len(prompts)} different prompts with two different replies are too few, expected at least "
            f"{HELD_OUT_EVERY}: one in {HELD_OUT_EVERY} is held out; give more pairs, or some to hold out as "
            f"--held_out{beside}"
        )
    chosen = set(prompts[: len(prompts) // HELD_OUT_EVERY])
    held_out = [pair for pair in read.usable if hash_asked(pair.prompt) in chosen]
    others = [pair for pair in read.usable if hash_asked(pair.prompt) not in chosen]
    training = _without_near(others, held_out)
    if not training:
        raise InputError(
            f"{data}: all {len(prompts)} prompts are nearly the same, so that what is held out would measure what was "
            "learned by heart; give pairs of more different prompts"
        )
    left_out = {**read.left_out, NEARLY_HELD_OUT: len(others) - len(training)}
    return PreferenceSplits(training, held_out, left_out, read.odd)


def split_given(data: str, training: ReadPairs, name: str, held_out: ReadPairs) -> PreferenceSplits:
    """All of a set that is given are held out, and pairs that share a prompt with it, or nearly, are not learned.

    Raises:
        InputError: either has no pair that says what is preferred, or they have all prompts in common.

    """
    for where, one in ((data, training), (name, held_out)):
        if not one.usable:
            found = "; ".join(f"{count} {what}" for what, count in one.left_out.items() if count)
            raise InputError(f"{where}: no pair says which reply is preferred, expected at least one; found {found}")
    asked = {hash_asked(pair.prompt) for pair in held_out.usable}
    others = [pair for pair in training.usable if hash_asked(pair.prompt) not in asked]
    apart = _without_near(others, held_out.usable)
    if not apart:
        raise InputError(
            f"{data}: all {len(training.usable)} pairs have a prompt that is held out in {name} too, or nearly, "
            "expected other ones to learn from"
        )
    left_out = {
        **(training.left_out + held_out.left_out),
        "pairs whose prompt is held out too": len(training.usable) - len(others),
        NEARLY_HELD_OUT: len(others) - len(apart),
    }
    return PreferenceSplits(apart, held_out.usable, left_out, add_up(training.odd, held_out.odd))


def _without_near(pairs: Sequence[Pair], held_out: Sequence[Pair]) -> list[Pair]:
    """The pairs whose prompt is not nearly one that is held out."""
    prompts = [asked_text(pair.prompt) for pair in pairs]
    near = NearQuestions((asked_text(pair.prompt) for pair in held_out), sample=evenly_spaced(prompts, SAMPLE))
    return [pair for pair, prompt in zip(pairs, prompts, strict=True) if not near.is_near(prompt)]
