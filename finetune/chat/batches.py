"""Conversations into micro-batches, as a function of seed and step: packed end to end, or rows of like length.

Every conversation is read once an epoch. What a step reads does not depend on the number of processes. Padded rows are
for models that would not keep packed conversations apart.

Shapes: B rows of a micro-batch, T tokens of its longest row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs import InputError
from finetune.chat.mixing import ReadingOrder, Steps
from finetune.chat.packing import cut_evenly, join, join_by_tokens, to_row
from finetune.chat.rendered import RenderedConversation, RenderedSet, find_fitting
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch, name_numbers


@dataclass(frozen=True)
class Fitting:
    """The conversations that can be learned from within a length limit, and how many cannot."""

    kept: RenderedSet
    too_long: int
    unsupervised: int = 0
    """In which nothing is learned."""


def keep_fitting(rendered: Sequence[RenderedConversation], maximum_tokens: int) -> Fitting:
    """Leaves out what is longer than the limit: a conversation that is cut would teach a reply without its end.

    Raises:
        InputError: nothing fits, or nothing is learned in what does.

    """
    all_of_them = RenderedSet.of(rendered)
    fitting = find_fitting(all_of_them.lengths, maximum_tokens, "conversations")
    learned = fitting[all_of_them.count_supervised()[fitting] > 0]
    if not len(learned):
        raise InputError(f"none of {len(fitting)} conversations has a token to learn: give assistant messages")
    return Fitting(
        kept=all_of_them if len(learned) == len(all_of_them) else all_of_them.only(learned),
        too_long=len(all_of_them) - len(fitting),
        unsupervised=len(fitting) - len(learned),
    )


class ConversationBatches:
    """The micro-batches of every step.

    An epoch is a permutation, or a mixture of sets, cut into steps: each learns from conversations of all lengths and
    kinds. Inside a step, with `packed`, whole conversations share a row without any filling; else rows of like length
    share a micro-batch. With `shares_prefixes`, what all conversations of a packed row begin with, such as one system
    prompt, stands there once. With `accumulation_steps` a process cuts its share into so many micro-batches, whatever
    their tokens. The `order` says what they are read in.
    """

    def __init__(
        self,
        rendered: Sequence[RenderedConversation],
        conversations_per_step: int,
        tokens_per_micro_batch: int,
        seed: int,
        packed: bool = False,
        accumulation_steps: int | None = None,
        shares_prefixes: bool = False,
        order: ReadingOrder | None = None,
    ) -> None:
        self.rendered, self.packed, self.accumulation_steps = RenderedSet.of(rendered), packed, accumulation_steps
        self.shares_prefixes = shares_prefixes
        self.per_step, self.tokens_per_micro_batch, self.seed = conversations_per_step, tokens_per_micro_batch, seed
        self.order = ReadingOrder(len(rendered), seed) if order is None else order
        self._steps = Steps(self.order, conversations_per_step, -(-len(rendered) // conversations_per_step))
        self.steps_per_epoch = math.ceil(len(rendered) / self.order.share / conversations_per_step)

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """One process's share of a step: `input_ids` and `targets`, each (B, T), filled up on the right.

        Packed rows are (1, T) and bring `position_ids`, which begin at 0 with each conversation, or where it goes on
        from a shared prefix. Where some target counts less than 1, `weights` come too.
        """
        lengths = self.rendered.lengths
        chosen = sorted(self._steps.read_in(step), key=lambda number: (lengths[number], number))
        mine = [to_row(self.rendered[number]) for number in chosen[rank::world_size]]
        if not mine:  # the last step of an epoch may have fewer rows than processes; each still takes part in its sums
            ids, targets, *_ = to_row(self.rendered[chosen[0]])
            return [join([(ids, [IGNORED_TARGET] * len(targets))], packed=self.packed)]
        if self.accumulation_steps is not None:
            return [
                join(rows, packed=self.packed, shares_prefix=self.shares_prefixes)
                for rows in cut_evenly(mine, self.accumulation_steps)
            ]
        return join_by_tokens(mine, self.tokens_per_micro_batch, packed=self.packed, shares_prefix=self.shares_prefixes)

    def describe(self, step: int) -> str:
        """The numbers of a step's conversations, as `--inspect` shows them one by one."""
        return name_numbers("conversations", [number + 1 for number in self._steps.read_in(step)])


def check_global_batch(
    per_step: int, accumulation_steps: int | None, processes: int, name: str = "conversations_per_step"
) -> None:
    """Refuses a step that cannot be shared out evenly: some process or micro-batch would wait for the others.

    Raises:
        InputError: processes x accumulation steps do not divide the conversations, or whatever `name` counts.

    """
    parts = processes * (accumulation_steps or 1)
    if per_step % parts:
        below = per_step // parts * parts
        nearest = f"{below} or {below + parts}" if below else f"{parts}"
        shares = f"{processes} process{'es' if processes > 1 else ''} x {accumulation_steps or 1} accumulation steps"
        raise InputError(f"{name}: found {per_step}, expected a multiple of {parts} ({shares}): set {nearest}")
