"""The rendered pairs of a preference run, with what was left out counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.chat import ChatFormat, mask_as_text
from finetune.conversation_sets import spread
from finetune.preference_batches import PreferenceBatches, RenderedPair, render_pairs
from finetune.preference_pairs import Pair
from finetune.preference_sets import PreferenceSets


@dataclass(frozen=True)
class PreferenceMaterial:
    """What a run reads."""

    training: list[RenderedPair]
    batches: PreferenceBatches
    held_out: list[Pair]
    """What evaluations read, spread evenly over all that is held out."""
    held_out_batches: PreferenceBatches
    left_out: Mapping[str, int]
    """What is neither learned from nor held out -> how often."""

    def describe(self) -> str:
        """What is read and what is left out, counted."""
        sides = [side for pair in self.training for side in (pair.chosen, pair.rejected)]
        tokens = sum(len(side.input_ids) for side in sides)
        supervised = sum(sum(side.supervised) for side in sides)
        left_out = "; ".join(f"{count} {what}" for what, count in self.left_out.items() if count) or "nothing"
        return (
            f"{len(self.training):,} pairs to learn from; an epoch is {self.batches.steps_per_epoch:,} steps and "
            f"{tokens:,} tokens, {supervised / tokens:.0%} of them in replies\n"
            f"{len(self.held_out):,} held-out pairs for evaluations; left out: {left_out}"
        )


def prepare_preferences(
    tokenizer: PreTrainedTokenizerFast,
    sets: PreferenceSets,
    *,
    maximum_tokens: int,
    held_out_pairs: int,
    pairs_per_step: int,
    tokens_per_micro_batch: int,
    seed: int,
) -> PreferenceMaterial:
    """Renders the pairs; one with a side longer than the limit is left out, never cut.

    Raises:
        InputError: no pair fits, of those to learn from or of those held out.

    """
    chat = ChatFormat(tokenizer)
    training = keep_fitting_pairs(render_pairs(chat, sets.training), sets.training, maximum_tokens, "pairs")
    held_out = keep_fitting_pairs(render_pairs(chat, sets.held_out), sets.held_out, maximum_tokens, "held-out pairs")
    read = spread(held_out, held_out_pairs)
    batches, held_out_batches = (
        PreferenceBatches(pairs, pairs_per_step, tokens_per_micro_batch, seed)
        for pairs in ([rendered for rendered, _ in training], [rendered for rendered, _ in read])
    )
    return PreferenceMaterial(
        training=[rendered for rendered, _ in training],
        batches=batches,
        held_out=[pair for _, pair in read],
        held_out_batches=held_out_batches,
        left_out={
            **sets.left_out,
            f"pairs of more than {maximum_tokens} tokens": len(sets.training) - len(training),
            f"held-out pairs of more than {maximum_tokens} tokens": len(sets.held_out) - len(held_out),
        },
    )


def keep_fitting_pairs(
    rendered: Sequence[RenderedPair], pairs: Sequence[Pair], maximum_tokens: int, what: str
) -> list[tuple[RenderedPair, Pair]]:
    """The pairs whose longer side fits, beside what they were.

    Raises:
        InputError: nothing fits.

    """
    kept = [both for both in zip(rendered, pairs, strict=True) if both[0].tokens() <= maximum_tokens]
    if not kept:
        shortest = min((one.tokens() for one in rendered), default=0)
        raise InputError(
            f"maximum_tokens {maximum_tokens}: none of {len(rendered)} {what} fits, the shortest has {shortest} "
            "tokens: raise the limit or give shorter ones"
        )
    return kept


def first_pair(material: PreferenceMaterial, tokenizer: PreTrainedTokenizerFast, *, colour: bool) -> str:
    """Both sides of the first pair with what is compared made visible."""
    first = material.training[0]
    sides = {"chosen": first.chosen, "rejected": first.rejected}
    return "\n".join(
        f"{name}: {mask_as_text(side, lambda ids: str(tokenizer.decode(ids)), colour=colour)}"
        for name, side in sides.items()
    )
