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

from configs import InputError
from finetune.engine.engine import engine_of
from finetune.engine.padding_free import flat_hidden_states
from finetune.losses.chunked_cross_entropy import summed_cross_entropy
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tokenizer_ext.embeddings.extended_tables import ExtendedHead


class SupervisedLoss(nn.Module):
    """A Hugging Face causal model with its summed loss; adapters inside the model take part.

    Rows are filled up on the right, which no position of a causal model sees, so no attention mask is needed; the
    targets of the filling are ignored. The head's weights are read where they lie, not through its forward: FSDP
    must shard this module as a whole (and the blocks inside it as it likes), not the head apart.

    Raises:
        InputError: the model does more between its last hidden state and its logits than the head.

    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        _check_logits_are_the_heads(model)
        self.model = model
        self._copies = _FrozenCopies()

    def forward(self, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Summed nats of the targets that are not -100: two or three of (B, T) -> ()."""
        engine = engine_of(self.model)
        with nullcontext() if engine is None else engine.autocast():
            if engine is not None and engine.lays_flat:
                hidden, targets = flat_hidden_states(self.model, input_ids, targets, position_ids)  # (1, N, D), (1, N)
            else:
                hidden = self._hidden_states(input_ids, position_ids)  # (B, T, D)
            chosen = (targets.flatten() != IGNORED_TARGET).nonzero().squeeze(1)  # (S,)
            learned = hidden.flatten(0, 1).index_select(0, chosen)  # (S, D)
            return _summed_nats(self.model.get_output_embeddings(), learned, targets.flatten()[chosen], self._copies)

    def _hidden_states(self, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
        positions = {} if position_ids is None else {"position_ids": position_ids}
        # Without an attention mask transformers keeps packed conversations apart by their positions.
        hidden: Tensor = self.model.base_model(input_ids=input_ids, use_cache=False, **positions).last_hidden_state
        return hidden


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


def _summed_nats(head: nn.Module, hidden: Tensor, targets: Tensor, copies: _FrozenCopies) -> Tensor:
    device = hidden.device.type
    if isinstance(head, ExtendedHead):
        segments = head.segments()
    elif type(head) is nn.Linear:
        segments = [(head.weight, head.bias)]
    else:  # An adapter on the head itself: only its own forward knows its logits, (S, V).
        return F.cross_entropy(head(hidden).float(), targets, reduction="sum")
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        segments = [(copies.take(weight, dtype), bias) for weight, bias in segments]
    return summed_cross_entropy(hidden, targets, segments)


@torch.no_grad()
def _check_logits_are_the_heads(model: PreTrainedModel) -> None:
    # Some models cap or scale their logits, or transform the hidden state first. To call the head alone would train
    # another model than the one that replies, and nothing would show it.
    was_training = model.training
    model.eval()
    input_ids = torch.tensor([[0, 1, 2]], device=next(model.parameters()).device)
    hidden = getattr(model.base_model(input_ids=input_ids, use_cache=False), "last_hidden_state", None)
    theirs = model(input_ids=input_ids, use_cache=False).logits
    ours = None if hidden is None else model.get_output_embeddings()(hidden)
    model.train(was_training)
    if ours is None or not torch.allclose(ours, theirs, rtol=1e-6, atol=1e-7):
        raise InputError(
            f"{type(model).__name__}: its logits are not its head's on the last hidden state, expected a model without "
            "capped or scaled logits such as GPT-2, Llama, Qwen or OLMo"
        )
