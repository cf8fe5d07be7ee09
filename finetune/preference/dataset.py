"""The rendered pairs of a preference run, with what was left out counted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from finetune.chat.chat_format import ChatFormat, mask_as_text
from finetune.chat.mixing import ReadingOrder
from finetune.chat.rendered import find_fitting
from finetune.conversations.orders import OddOrder, describe_oddities
from finetune.conversations.pairs import Pair
from finetune.preference.batches import PreferenceBatches, RenderedPairs, render_pairs
from finetune.preference.pair_splits import PreferenceSplits
from scratch_models.corpus.evenly_spaced import evenly_spaced
from tokenizer_ext.pages.progress import shown


@dataclass(frozen=True)
class PreferenceDataset:
    """What a run reads."""

    training: RenderedPairs
    batches: PreferenceBatches
    held_out: list[Pair]
    """What evaluations read, spread evenly over all that is held out."""
    held_out_batches: PreferenceBatches
    left_out: Mapping[str, int]
    """What is neither learned from nor held out -> how often."""
    chat: ChatFormat
    """What they were rendered in."""
    odd: Mapping[str, OddOrder]
    """What is odd in the order of turns, and read as it is."""

    def describe(self) -> str:
        """What is read and what is left out, counted."""
        sides = self.training.chosen, self.training.rejected
        tokens = sum(int(side.lengths.sum()) for side in sides)
        supervised = sum(int(side.count_supervised().sum()) for side in sides)
        left_out = "; ".join(f"{count} {what}" for what, count in self.left_out.items() if count) or "nothing"
        mixture = self.batches.order.mixture
        mixed = "" if mixture is None else f"\nmixed by weight: {mixture.describe()}"
        odd = f"\nread as they are: {describe_oddities(self.odd, 'pairs')}" if self.odd else ""
        light = int((self.training.weights < 1).sum())
        weighing = f", {light:,} of them with a weight below 1" if light else ""
        return (
            f"{len(self.training):,} pairs to learn from{weighing}; an epoch is {self.batches.steps_per_epoch:,} steps "
            f"and {tokens:,} tokens, {supervised / tokens:.0%} of them in replies\n"
            f"{len(self.held_out):,} held-out pairs for evaluations; left out: {left_out}{mixed}{odd}"
        )


@shown("rendering the pairs")
def prepare_preferences(
    chat: ChatFormat,
    splits: PreferenceSplits,
    *,
    maximum_tokens: int,
    held_out_pairs: int,
    pairs_per_step: int,
    tokens_per_micro_batch: int,
    seed: int,
    packed: bool = False,
) -> PreferenceDataset:
    """Renders the pairs; one with a side longer than the limit is left out, never cut.

    Raises:
        InputError: no pair fits, of those to learn from or of those held out.

    """
    training, held_out = render_pairs(chat, splits.training), render_pairs(chat, splits.held_out)
    fitting = find_fitting(training.lengths(), maximum_tokens, "pairs").tolist()
    fitting_held_out = find_fitting(held_out.lengths(), maximum_tokens, "held-out pairs").tolist()
    read = evenly_spaced(fitting_held_out, held_out_pairs)
    mixture = None if splits.mixture is None else splits.mixture.only(np.array(fitting))
    kept, kept_held_out = training.only(fitting), held_out.only(read)
    return PreferenceDataset(
        training=kept,
        batches=PreferenceBatches(
            kept, pairs_per_step, tokens_per_micro_batch, seed, packed, ReadingOrder(len(kept), seed, mixture)
        ),
        held_out=[splits.held_out[number] for number in read],
        held_out_batches=PreferenceBatches(kept_held_out, pairs_per_step, tokens_per_micro_batch, seed, packed),
        left_out={
            **splits.left_out,
            f"pairs of more than {maximum_tokens} tokens": len(training) - len(fitting),
            f"held-out pairs of more than {maximum_tokens} tokens": len(held_out) - len(fitting_held_out),
        },
        chat=chat,
        odd=splits.odd,
    )


def first_pair(dataset: PreferenceDataset, tokenizer: PreTrainedTokenizerFast, *, colour: bool) -> str:
    """Both sides of the first pair with what is compared made visible."""
    sides = {"chosen": dataset.training.chosen[0], "rejected": dataset.training.rejected[0]}
    return "\n".join(
        f"{name}: {mask_as_text(side, lambda ids: str(tokenizer.decode(ids)), colour=colour)}"
        for name, side in sides.items()
    )
