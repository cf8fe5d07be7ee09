"""The rendered conversations of a run, with what was left out counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from finetune.chat.batches import ConversationBatches, Fitting, keep_fitting
from finetune.chat.chat_format import ChatFormat, mask_as_text
from finetune.chat.mixing import ReadingOrder
from finetune.chat.rendered import RenderedSet, find_fitting
from finetune.chat.token_cache import render_through_cache
from finetune.conversations.formats import Conversation
from finetune.conversations.orders import OddOrder, describe_oddities
from finetune.conversations.splits import ConversationSplits, Drawn
from scratch_models.corpus.evenly_spaced import evenly_spaced


@dataclass(frozen=True)
class SupervisedDataset:
    """What a run reads."""

    batches: ConversationBatches
    training: RenderedSet
    held_out: RenderedSet
    """What evaluations read, spread evenly over all that is held out; it measures, so whatever is learned counts 1."""
    held_out_reply_bytes: int
    """UTF-8 bytes of what the assistant says in them."""
    left_out: Mapping[str, int]
    """What is neither learned from nor held out -> how often."""
    assistant_turns: int
    """Messages of the assistant in what is learned from."""
    learned_ends: int
    """Of them, those whose end of turn is learned: all, or the assistant would not know when to stop."""
    chat: ChatFormat
    """What they were rendered in."""
    partly_learned: int = 0
    """Of the assistant's turns, those that count less than 1 in the loss."""
    odd: Mapping[str, OddOrder] = field(default_factory=dict)
    """What is odd in the order of turns, and read as it is."""
    drawn: Drawn | None = None
    """What those to learn from were drawn from, where not all are rendered."""
    in_parts: int = 0
    """Conversations that are learned one reply at a time, since the chat template rewrites what was said before."""

    def describe(self) -> str:
        """What is read and what is left out, counted."""
        tokens = int(self.training.lengths.sum())
        share = int(self.training.count_supervised().sum()) / tokens
        of_epoch = round(tokens / self.batches.order.share)
        left_out = "; ".join(f"{count} {what}" for what, count in self.left_out.items() if count) or "nothing"
        packed = ", packed end to end" if self.batches.packed else ""
        in_parts = (
            f"\n{self.in_parts:,} conversations are learned one reply at a time, each after the history that a server "
            "would see: the chat template rewrites it, or a prompt ends inside a token"
            if self.in_parts
            else ""
        )
        mixture = self.batches.order.mixture
        mixed = "" if mixture is None else f"\nmixed by weight: {mixture.describe()}"
        partly = f", {self.partly_learned:,} of which count less than 1 in the loss" if self.partly_learned else ""
        odd = f"\nread as they are: {describe_oddities(self.odd)}" if self.odd else ""
        drawn = f", drawn from {self.drawn.of:,} since no more are read" if self.drawn else ""
        return (
            f"{len(self.training):,} {'rows' if self.in_parts else 'conversations'} to learn from{drawn}{packed}; an "
            f"epoch is {self.batches.steps_per_epoch:,} steps and {of_epoch:,} tokens, {share:.0%} of them "
            f"supervised, with {self.learned_ends:,} of {self.assistant_turns:,} ends of an assistant's turn{partly}\n"
            f"{len(self.held_out):,} held-out conversations for evaluations; left out: {left_out}{mixed}{odd}{in_parts}"
        )

    def in_rows(
        self, *, packed: bool, tokens_per_micro_batch: int, shares_prefixes: bool = False
    ) -> "SupervisedDataset":
        """The same, its conversations packed in rows, or each in a row of its own."""
        old = self.batches
        sizes, cut = (old.per_step, tokens_per_micro_batch, old.seed), old.accumulation_steps
        how = {"packed": packed, "shares_prefixes": shares_prefixes}
        batches = ConversationBatches(old.rendered, *sizes, **how, accumulation_steps=cut, order=old.order)
        return replace(self, batches=batches)


def prepare_dataset(  # noqa: PLR0913 - each is a choice of its own, and the later ones have defaults
    chat: ChatFormat,
    splits: ConversationSplits,
    *,
    maximum_tokens: int,
    held_out_conversations: int,
    conversations_per_step: int,
    tokens_per_micro_batch: int,
    seed: int,
    packed: bool = False,
    accumulation_steps: int | None = None,
    cache: Path | None = None,
) -> SupervisedDataset:
    """Renders the conversations, or finds them in the `cache`; those longer than the limit are left out, never cut.

    Raises:
        InputError: no conversation fits, of those to learn from or of those held out.
    """
    all_training, all_held_out = (_render(part, chat, cache) for part in (splits.training, splits.held_out))
    training = keep_fitting(all_training, maximum_tokens)
    fitting = find_fitting(all_held_out.lengths, maximum_tokens, "held-out conversations").tolist()
    read = np.array(evenly_spaced(fitting, held_out_conversations))
    learned, held_out = _facts(training.kept), _facts(all_held_out.only(read))
    assert learned["ends"].sum() == learned["turns"].sum(), "every turn of the assistant has a learned end"
    sizes = conversations_per_step, tokens_per_micro_batch, seed, packed, accumulation_steps
    return SupervisedDataset(
        batches=ConversationBatches(training.kept, *sizes, order=_order_of(training.kept, splits, seed)),
        training=training.kept,
        held_out=all_held_out.only(read).unweighted(),
        held_out_reply_bytes=int(held_out["said_bytes"].sum()),
        left_out={**splits.left_out, **_too_long(training, len(all_held_out) - len(fitting), maximum_tokens)},
        assistant_turns=int(learned["turns"].sum()),
        learned_ends=int(learned["ends"].sum()),
        chat=chat,
        partly_learned=int(learned["partly_learned_ends"].sum()),
        odd=splits.odd,
        drawn=splits.drawn,
        in_parts=int((np.bincount(all_training.sources) > 1).sum()),
    )


def _order_of(kept: RenderedSet, splits: ConversationSplits, seed: int) -> ReadingOrder:
    mixture = None if splits.mixture is None else splits.mixture.only(kept.sources)
    return ReadingOrder(len(kept), seed, mixture, len(splits.training) / splits.drawn.of if splits.drawn else 1.0)


def _too_long(training: Fitting, held_out: int, maximum_tokens: int) -> dict[str, int]:
    """What cannot be used once it is rendered -> how often."""
    return {
        f"conversations of more than {maximum_tokens} tokens": training.too_long,
        "conversations in which nothing is learned": training.unsupervised,
        f"held-out conversations of more than {maximum_tokens} tokens": held_out,
    }


def _facts(rendered: RenderedSet) -> np.ndarray:
    assert rendered.facts is not None, "every chat format counts them"
    return rendered.facts


def _render(conversations: Sequence[Conversation], chat: ChatFormat, cache: Path | None) -> RenderedSet:
    return chat.render_set(conversations) if cache is None else render_through_cache(conversations, chat, cache)


def first_example(dataset: SupervisedDataset, *, colour: bool) -> str:
    """The first conversation with what is learned made visible."""
    tokenizer = dataset.chat.tokenizer
    return mask_as_text(dataset.training[0], lambda ids: str(tokenizer.decode(ids)), colour=colour)
