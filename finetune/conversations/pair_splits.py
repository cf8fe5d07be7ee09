"""The preference pairs of a run: those to learn from and those held out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs import InputError
from finetune.conversations.embedded_pairs import embedded_pairs
from finetune.conversations.keys import count_unread
from finetune.conversations.messages import hash_asked, hash_messages
from finetune.conversations.near_questions import NearQuestions, asked_text
from finetune.conversations.pairs import Pair, read_pairs
from finetune.conversations.splits import HELD_OUT_EVERY
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.embedded_default import EMBEDDED

NEARLY_HELD_OUT = "pairs whose prompt is nearly one that is held out"
SAMPLE = 1000
"""Prompts to learn from that show what many prompts say alike."""


@dataclass(frozen=True)
class PreferenceSplits:
    """Two sets without a prompt in common, or nearly."""

    training: list[Pair]
    held_out: list[Pair]
    left_out: Mapping[str, int]
    """What is in neither set -> how often."""

    def sha256(self) -> str:
        """The hash of all messages of both sets."""
        pairs = (*self.training, *self.held_out)
        parts = (part for pair in pairs for part in (pair.prompt, pair.chosen, pair.rejected))
        return hash_messages(parts, tools=(pair.tools for pair in pairs))


def read_preference_splits(data: str) -> PreferenceSplits:
    """The pairs named by `data`: `embedded`, a file, or a Hub name.

    Raises:
        InputError: the data cannot be read, or is too little to hold anything out.

    """
    if data == EMBEDDED:
        return PreferenceSplits(*embedded_pairs(), left_out={})
    unread: Counter[str] = Counter()
    return split_pairs(data, read_pairs(data, unread), unread)


def split_pairs(data: str, pairs: Sequence[Pair], unread: Mapping[str, int] | None = None) -> PreferenceSplits:
    """One prompt in twenty is held out, chosen by its hash; pairs of two equal replies are left out.

    So all pairs of a prompt lie on one side, and the order of the lines has no effect. Pairs whose prompt is nearly one
    that is held out are left out too. `unread` are the values of keys that were left alone.

    Raises:
        InputError: there are too few prompts.

    """
    differing = [pair for pair in pairs if pair.chosen != pair.rejected]
    prompts = sorted({hash_asked(pair.prompt) for pair in differing})
    if len(prompts) < HELD_OUT_EVERY:
        raise InputError(
            f"{data}: {len(prompts)} different prompts with two different replies are too few, expected at least "
            f"{HELD_OUT_EVERY}: one in {HELD_OUT_EVERY} is held out; give more pairs"
        )
    chosen = set(prompts[: len(prompts) // HELD_OUT_EVERY])
    held_out = [pair for pair in differing if hash_asked(pair.prompt) in chosen]
    others = [pair for pair in differing if hash_asked(pair.prompt) not in chosen]
    training = _without_near(others, held_out)
    if not training:
        raise InputError(
            f"{data}: all {len(prompts)} prompts are nearly the same, so that what is held out would measure what was "
            "learned by heart; give pairs of more different prompts"
        )
    left_out = {
        "pairs whose two replies are the same": len(pairs) - len(differing),
        NEARLY_HELD_OUT: len(others) - len(training),
        **count_unread(unread or {}),
    }
    return PreferenceSplits(training, held_out, left_out)


def _without_near(pairs: Sequence[Pair], held_out: Sequence[Pair]) -> list[Pair]:
    """The pairs whose prompt is not nearly one that is held out."""
    prompts = [asked_text(pair.prompt) for pair in pairs]
    near = NearQuestions((asked_text(pair.prompt) for pair in held_out), sample=evenly_spaced(prompts, SAMPLE))
    return [pair for pair, prompt in zip(pairs, prompts, strict=True) if not near.is_near(prompt)]
