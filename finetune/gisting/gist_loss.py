"""What the training loop trains: replies behind gist tokens against the base's own behind the whole prompt.

Shapes: B rows of a micro-batch, T tokens of a row, S places of replies, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from finetune.chat.mixing import ReadingOrder, Steps
from finetune.chat.packing import Row
from finetune.engine.engine import Engine
from finetune.engine.padding_free import hidden_states
from finetune.gisting.gist_tokens import GistModel
from finetune.gisting.teacher import group_rows, join_rows
from finetune.losses.divergence import summed_divergence
from finetune.losses.head import Segment, check_logits_are_the_heads
from finetune.rows.base_reading import old_segment
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch, name_numbers
from scratch_models.loop.optimizers import adamw


class GistLoss(nn.Module):
    """KL(base after the prompt || base after the gist tokens), summed over the places of replies.

    Where the rows also score their own tokens (a tied model), these must not win a place in a reply: the student's
    distribution is over all ids then. A head of its own gives them the mean of its rows, which never wins.

    Raises:
        InputError: the model does more between its last hidden state and its logits than the head.

    """

    def __init__(self, gist: GistModel, engine: Engine) -> None:
        super().__init__()
        check_logits_are_the_heads(gist.model)
        self.model, self.engine, self.tied = gist.model, engine, gist.tied
        self.first_new_id = gist.extended.first_new_id

    def train(self, mode: bool = True) -> "GistLoss":
        """Stays in evaluation: what the base makes of a reply holds no dropout, so neither does what is compared."""
        del mode
        return super().train(False)

    @property
    def old(self) -> Segment:
        """Weight and bias of the head for the base's ids."""
        return old_segment(self.model, self.first_new_id)

    @property
    def new(self) -> Segment:
        """Those of the gist tokens."""
        head = self.model.get_output_embeddings()
        return head.new_rows, head.new_biases

    def forward(self, input_ids: Tensor, targets: Tensor, taught: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Summed nats: two or three of (B, T), and (S, D) in the order of the places -> ()."""
        with self.engine.autocast():
            hidden = hidden_states(self.model, input_ids, position_ids)  # (B, T, D)
            learned = hidden[targets != IGNORED_TARGET]  # (S, D)
            return summed_divergence(learned, taught, self.old, self.new if self.tied else None)


class GistBatches:
    """The micro-batches of every step, a function of seed and step: each question once an epoch."""

    def __init__(
        self, rows: Sequence[Row], taught: Sequence[Tensor], per_step: int, tokens: int, seed: int, engine: Engine
    ) -> None:
        self.rows, self.taught, self.tokens, self.engine = rows, taught, tokens, engine
        self.steps_per_epoch = -(-len(rows) // per_step)
        self._steps = Steps(ReadingOrder(len(rows), seed), per_step, self.steps_per_epoch)

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """One process's share of a step, with `taught`, (S, D), for the places of its targets."""
        read = self._steps.read_in(step)
        mine = read[rank::world_size]
        if not mine:  # fewer questions than processes: each still takes part in the sums
            ids, targets, *_ = self.rows[read[0]]
            nothing = self.taught[read[0]][:0]
            return [join_rows([(ids, [IGNORED_TARGET] * len(targets))], self.engine) | {"taught": nothing}]
        rows = [self.rows[number] for number in mine]
        return [
            join_rows([rows[place] for place in places], self.engine)
            | {"taught": torch.cat([self.taught[mine[place]] for place in places])}
            for places in group_rows(rows, self.tokens, self.engine)
        ]

    def describe(self, step: int) -> str:
        """The numbers of a step's questions."""
        return name_numbers("questions", [number + 1 for number in self._steps.read_in(step)])


def make_gist_optimizer(gist: GistModel, learning_rate: float, weight_decay: float) -> Optimizer:
    """AdamW on the rows of the embedding alone."""
    return adamw([{"params": [gist.rows], "lr": learning_rate, "weight_decay": weight_decay}])
