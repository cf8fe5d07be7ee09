"""What is measured while rows train: how far held-out replies are from those behind the prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune.chat.packing import Row
from finetune.conversations.messages import Message
from finetune.gisting.gist_loss import GistLoss
from finetune.gisting.gist_tokens import GistModel
from finetune.gisting.prompted_replies import Replies
from finetune.gisting.questions import Question
from finetune.gisting.teacher import reply_row, states_of
from finetune.losses.divergence import Compared, compare_places
from finetune.rows.dataset import count_target_bytes
from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.loop.best_checkpoint import MEASURE

KL_SHARE = "held_out_kl_share"
"""What `metrics.jsonl` calls the share of the divergence without a prompt that is left."""
Ask = Callable[[Sequence[Message]], list[int]]


@dataclass(frozen=True)
class HeldOut:
    """Questions that nothing learns from, with the base's greedy replies behind the prompt."""

    questions: list[Question]
    replies: Replies
    taught: list[Tensor]
    """What the head reads of each reply there, (S, D)."""

    def rows(self, ask: Ask) -> list[Row]:
        """The same replies behind another beginning."""
        return [reply_row(ask(one.messages), reply) for one, reply in zip(self.questions, self.replies, strict=True)]


class GistMonitor:
    """The evaluation that the training loop calls, in every process."""

    def __init__(self, gist: GistModel, loss_model: GistLoss, held_out: HeldOut, tokens: int) -> None:
        self.gist, self.loss_model, self.held_out, self.tokens = gist, loss_model, held_out, tokens
        targets = [{"targets": torch.tensor(reply)} for reply in held_out.replies]
        self.text_bytes = count_target_bytes(targets, gist.extended.tokenizer)
        self.without = self.compare(gist.form.after_nothing, "held-out replies without a prompt")

    def __call__(self, _step: int) -> dict[str, float]:
        """Nats of divergence per token, bits per byte of the base's replies, and the share that is left."""
        found = self.compare(self.gist.form.after_gist, "held-out replies")
        nats = sum(divergences(found))
        return {
            "held_out_loss_nats": nats / sum(map(len, self.held_out.replies)),
            MEASURE: bits_per_byte(sum(float(one.cross_entropy.sum()) for one in found), self.text_bytes),
            KL_SHARE: nats / sum(divergences(self.without)),
        }

    def compare(self, ask: Ask, what: str) -> list[Compared]:
        """Each reply behind what `ask` gives beside the same behind the prompt."""
        loss_model, rows = self.loss_model, self.held_out.rows(ask)
        device = loss_model.model.device
        with loss_model.engine.autocast():
            states = states_of(loss_model.model, rows, loss_model.engine, self.tokens, what)
            return [
                compare_places(own.to(device), taught.to(device), loss_model.old, loss_model.new)
                for own, taught in zip(states, self.held_out.taught, strict=True)
            ]


def divergences(compared: Sequence[Compared]) -> list[float]:
    """The nats of each reply."""
    return [float(one.divergence.double().sum()) for one in compared]
