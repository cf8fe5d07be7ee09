"""The loss of preference tuning: direct preference optimization (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290).

The reward of a reply is beta times how much likelier it has become than the reference finds it, in nats. DPO raises the
margin between the rewards of chosen and rejected (equation 7). IPO (Azar et al. 2023, https://arxiv.org/abs/2310.12036,
equation 17) brings the log-ratios per token apart by 1 / (2 beta) and no further, as TRL does it. The nats per token of
the chosen reply may be added (Pang et al. 2024, https://arxiv.org/abs/2404.19733, equation 1), which keeps it from
growing less likely together with the rejected one.

Shapes: P pairs, 2P rows, first all chosen; T tokens of a row; D width; S supervised positions of all rows.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from finetune.engine.engine import engine_of
from finetune.engine.padding_free import flat_hidden_states
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.losses.token_losses import token_nats
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tokenizer_ext.embeddings.extended_tables import ExtendedHead


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

    Rows are filled up on the right, which no position of a causal model sees, so no attention mask is needed. As with
    `SupervisedLoss` the head's weights are read where they lie: FSDP must shard this module as a whole.

    Raises:
        InputError: the model does more between its last hidden state and its logits than the head.

    """

    def __init__(self, model: PreTrainedModel, objective: Objective) -> None:
        super().__init__()
        self.model = SupervisedLoss(model).model  # which refuses what we could not compute either
        self.objective = objective

    def forward(self, input_ids: Tensor, targets: Tensor, reference: Tensor, summed: bool = True) -> Tensor:
        """The summed loss of the pairs: two of (2P, T), and (2P,) -> (); pairs without targets count as 0.

        Not `summed`, the log-probability of each reply, (2P,): whoever asks for these comes through here too, since
        sharded weights are gathered where a module is called.
        """
        log_probabilities = reply_log_probabilities(self.model, input_ids, targets)  # (2P,)
        if not summed:
            return log_probabilities
        tokens = (targets != IGNORED_TARGET).sum(dim=1)  # (2P,)
        losses = self.objective.losses(log_probabilities, reference, tokens.clamp(min=1))  # (P,)
        learned = (tokens > 0).view(2, -1).all(dim=0)  # (P,)
        return torch.where(learned, losses, torch.zeros_like(losses)).sum()


def reply_log_probabilities(model: PreTrainedModel, input_ids: Tensor, targets: Tensor) -> Tensor:
    """The summed log-probability of each row's targets that are not -100: two of (B, T) -> (B,), in float32."""
    engine = engine_of(model)
    with nullcontext() if engine is None else engine.autocast():
        if engine is not None and engine.lays_flat:
            hidden, ids = flat_hidden_states(model, input_ids, targets)  # (1, N, D), (1, N)
        else:
            hidden, ids = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state, targets  # (B, T, D)
        learned = ids != IGNORED_TARGET
        nats = _nats(model.get_output_embeddings(), hidden[learned], ids[learned]).float()  # (S,)
    rows = (targets != IGNORED_TARGET).nonzero()[:, 0]  # (S,); laid flat or not, they come row by row
    return nats.new_zeros(len(targets)).index_add(0, rows, -nats)


def _nats(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    if isinstance(head, ExtendedHead):
        return token_nats(hidden, targets, head.segments())
    if type(head) is nn.Linear:
        return token_nats(hidden, targets, [(head.weight, head.bias)])
    # An adapter on the head itself: only its own forward knows its logits, (S, V).
    return F.cross_entropy(head(hidden).float(), targets, reduction="none")
