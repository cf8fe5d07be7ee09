"""The loss of fine-tuning: the head runs only where something is learned.

In a chat most positions are questions. The head is the most expensive layer of a small model, and its logits the
largest tensor of a step: it runs on supervised positions alone, and the logits exist for a few of them at a time. The
loss is the same, up to rounding.

Shapes: B rows, T tokens, S supervised positions of the micro-batch, D width, V vocabulary.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from finetune.engine.engine import Engine
from finetune.engine.padding_free import hidden_states
from finetune.losses.chunked_cross_entropy import summed_cross_entropy
from finetune.losses.head import check_logits_are_the_heads, head_segments
from finetune.losses.vocabulary_parallel_loss import vocabulary_parallel_losses
from scratch_models.loop.micro_batches import IGNORED_TARGET
from scratch_models.loop.sharding import is_sharded
from scratch_models.sharded.vocabulary_parallel import VocabularyParallelHead


class SupervisedLoss(nn.Module):
    """A Hugging Face causal model with its summed loss; adapters inside the model take part.

    Rows are packed, or filled up on the right, where the targets of the filling are ignored. The head's weights are
    read where they lie, not through its forward: FSDP must shard this module as a whole (and the blocks inside it as
    it likes), not the head apart.

    Args:
        model: The model.
        engine: What is in force on it; None where it computes as transformers does.

    Raises:
        InputError: the model does more between its last hidden state and its logits than the head.

    """

    def __init__(self, model: PreTrainedModel, engine: Engine | None = None) -> None:
        super().__init__()
        check_logits_are_the_heads(model)
        self.model, self.engine = model, engine
        self._copies = _FrozenCopies()

    def forward(
        self,
        input_ids: Tensor,
        targets: Tensor,
        position_ids: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Summed nats of the targets that are not -100, each times its weight: two to four of (B, T) -> ()."""
        with nullcontext() if self.engine is None else self.engine.autocast():
            hidden = hidden_states(self.model, input_ids, position_ids)  # (B, T, D)
            chosen = (targets.flatten() != IGNORED_TARGET).nonzero().squeeze(1)  # (S,)
            learned = hidden.flatten(0, 1).index_select(0, chosen)  # (S, D)
            of_chosen = None if weights is None else weights.flatten()[chosen]  # (S,)
            head = self.model.get_output_embeddings()
            copies = None if is_sharded(head) else self._copies  # a copy would be whole when the head is not
            return _summed_nats(head, learned, targets.flatten()[chosen], of_chosen, copies)


class _FrozenCopies:
    """Frozen tables in half precision, cast once; trained ones as they are, for they change at every step."""

    def __init__(self) -> None:
        self._copies: dict[tuple[int, int, torch.Size], Tensor] = {}

    def take(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The weight, (R, D), or its copy, column after column: so a CPU makes logits twice as fast."""
        if weight.requires_grad or weight.dtype == dtype:
            return weight
        key = (weight.data_ptr(), weight._version, weight.shape)
        if key not in self._copies:
            self._copies = {old: copy for old, copy in self._copies.items() if old[0] != key[0]}
            self._copies[key] = weight.detach().to(dtype).T.contiguous().T
        return self._copies[key]


def _summed_nats(
    head: nn.Module, hidden: Tensor, targets: Tensor, weights: Tensor | None, copies: _FrozenCopies | None
) -> Tensor:
    if isinstance(head, VocabularyParallelHead):
        nats = vocabulary_parallel_losses(head, hidden, targets)  # (S,)
        return (nats if weights is None else nats * weights).sum()
    segments = head_segments(head)
    if segments is None:
        logits = head(hidden).float()  # (S, V)
        if weights is None:
            return F.cross_entropy(logits, targets, reduction="sum")
        return F.cross_entropy(logits, targets, reduction="none").mul(weights).sum()
    device = hidden.device.type
    if copies is not None and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        segments = [(copies.take(weight, dtype), bias) for weight, bias in segments]
    return summed_cross_entropy(hidden, targets, segments, weights=weights)
