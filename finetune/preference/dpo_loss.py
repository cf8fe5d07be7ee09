"""The loss of preference tuning: direct preference optimization (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290).

The reward of a reply is beta times how much likelier it has become than the reference finds it, in nats. DPO raises the
margin between the rewards of chosen and rejected (equation 7). IPO (Azar et al. 2023, https://arxiv.org/abs/2310.12036,
equation 17) brings the log-ratios per token apart by 1 / (2 beta) and no further, as TRL does it. The nats per token of
the chosen reply may be added (Pang et al. 2024, https://arxiv.org/abs/2404.19733, equation 1), which keeps it from
growing less likely together with the rejected one.

Shapes: P pairs, 2P rows, first all chosen, in B of T tokens; D width; S supervised positions of all rows.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from finetune.chat.packing import conversation_numbers
from finetune.engine.engine import Engine
from finetune.engine.padding_free import hidden_states
from finetune.losses.head import check_logits_are_the_heads
from finetune.losses.token_losses import token_losses
from finetune.preference.batches import are_learned, count_reply_tokens
from scratch_models.loop.micro_batches import IGNORED_TARGET


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is made of the log-probabilities of a pair."""

    kind: Literal["sigmoid", "ipo"] = "sigmoid"
    beta: float = 0.1
    chosen_weight: float = 0.0
    """Weight of the chosen reply's nats per token."""

    def describe(self) -> str:
        """The objective in words.

        >>> Objective(chosen_weight=1.0).describe()
        'sigmoid, beta 0.1, plus 1 x the nats per token of the chosen reply'
        """
        chosen = f", plus {self.chosen_weight:g} x the nats per token of the chosen reply" if self.chosen_weight else ""
        return f"{self.kind}, beta {self.beta:g}{chosen}"

    def losses(self, log_probabilities: Tensor, reference: Tensor, tokens: Tensor) -> Tensor:
        """The loss of each pair: three of (2P,) -> (P,). `tokens` is how many each reply has.

        >>> even = torch.tensor([-3.0, -4.0])
        >>> Objective().losses(even, even, torch.tensor([5, 5])).exp()
        tensor([2.])
        """
        ratios = log_probabilities - reference  # (2P,)
        if self.kind == "ipo":
            chosen, rejected = (ratios / tokens).chunk(2)
            losses = (chosen - rejected - 1 / (2 * self.beta)) ** 2
        else:
            chosen, rejected = ratios.chunk(2)
            losses = -F.logsigmoid(self.beta * (chosen - rejected))
        if self.chosen_weight:
            losses = losses - self.chosen_weight * (log_probabilities / tokens).chunk(2)[0]
        return losses


class PreferenceLoss(nn.Module):
    """A Hugging Face causal model with its summed loss over pairs; adapters inside the model take part.

    As with `SupervisedLoss` rows are packed or filled up on the right, and the head's weights are read where they lie:
    FSDP must shard this module as a whole.

    Raises:
        InputError: the model does more between its last hidden state and its logits than the head.

    """

    def __init__(self, model: PreTrainedModel, objective: Objective, engine: Engine | None = None) -> None:
        super().__init__()
        check_logits_are_the_heads(model)
        self.model, self.objective, self.engine = model, objective, engine

    def forward(
        self,
        input_ids: Tensor,
        targets: Tensor,
        reference: Tensor,
        position_ids: Tensor | None = None,
        pair_weights: Tensor | None = None,
        summed: bool = True,
    ) -> Tensor:
        """The summed loss of the pairs: two or three of (B, T), and (2P,) -> (); pairs without targets count as 0.

        With `pair_weights`, (P,), each loss counts as much.

        Not `summed`, the log-probability of each reply, (2P,): whoever asks for these comes through here too, since
        sharded weights are gathered where a module is called.
        """
        with nullcontext() if self.engine is None else self.engine.autocast():
            log_probabilities = reply_log_probabilities(self.model, input_ids, targets, position_ids)  # (2P,)
        if not summed:
            return log_probabilities
        tokens = count_reply_tokens(targets, position_ids)  # (2P,)
        losses = self.objective.losses(log_probabilities, reference, tokens.clamp(min=1))  # (P,)
        losses = losses if pair_weights is None else losses * pair_weights
        learned = are_learned(tokens)  # (P,)
        return torch.where(learned, losses, torch.zeros_like(losses)).sum()


def reply_log_probabilities(
    model: PreTrainedModel, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None
) -> Tensor:
    """The log-probability of all targets of each row that are not -100, in float32: two or three of (B, T) -> (2P,)."""
    hidden = hidden_states(model, input_ids, position_ids)  # (B, T, D)
    learned = targets != IGNORED_TARGET
    nats = token_losses(model.get_output_embeddings(), hidden[learned], targets[learned]).float()  # (S,)
    numbers = conversation_numbers(targets, position_ids)  # (B, T)
    return nats.new_zeros(int(numbers[-1, -1]) + 1).index_add(0, numbers[learned], -nats)
