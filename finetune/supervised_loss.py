"""The loss of fine-tuning: the head runs only where something is learned.

In a chat most positions are questions. The head is the most expensive layer of a small model, and its logits the
largest tensor of a step: it runs on supervised positions alone, and the logits exist for a few of them at a time. The
loss is the same, up to rounding.

Shapes: B rows, T tokens, S supervised positions of the micro-batch, D width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from configs import InputError
from finetune.chunked_cross_entropy import summed_cross_entropy
from scratch_models.corpus import IGNORED_TARGET
from tokenizer_ext.extended_tables import ExtendedHead


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

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of the targets that are not -100: two of (B, T) -> ()."""
        hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state  # (B, T, D)
        supervised = targets != IGNORED_TARGET  # (B, T)
        return _summed_nats(self.model.get_output_embeddings(), hidden[supervised], targets[supervised])


def _summed_nats(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    if isinstance(head, ExtendedHead):
        return summed_cross_entropy(hidden, targets, head.segments())
    if type(head) is nn.Linear:
        return summed_cross_entropy(hidden, targets, [(head.weight, head.bias)])
    # An adapter on the head itself: only its own forward knows its logits, (S, V).
    return F.cross_entropy(head(hidden).float(), targets, reduction="sum")


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
