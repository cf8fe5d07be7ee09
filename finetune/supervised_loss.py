"""The loss of fine-tuning: the head runs only where something is learned.

In a chat most positions are questions. The head is the most expensive layer of a small model, and its logits the largest
tensor of a step; both are spent on supervised positions alone. The loss is the same to the last bit of rounding.

Shapes: B rows, T tokens, S supervised positions of the micro-batch, D width, V vocabulary.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from configs import InputError
from scratch_models.corpus import IGNORED_TARGET

# What some models do to logits after the head, which a loss that calls the head itself would leave out.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class SupervisedLoss(nn.Module):
    """A Hugging Face causal model with its summed loss; adapters inside the model take part.

    Rows are filled up on the right, which a causal model cannot see from the left, so no attention mask is needed; the targets
    of the filling are ignored.

    Raises:
        InputError: the model changes its logits after the head.

    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        for name in LOGIT_CHANGES:
            if getattr(model.config.get_text_config(), name, None) not in (None, 1, 1.0):
                raise InputError(
                    f"{type(model).__name__}: {name} is set, expected a head without it: such models are not supported"
                )
        self.model = model

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """Summed nats of the targets that are not -100: two of (B, T) -> ()."""
        hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state  # (B, T, D)
        supervised = targets != IGNORED_TARGET  # (B, T)
        logits = self.model.get_output_embeddings()(hidden[supervised])  # (S, V)
        return F.cross_entropy(logits.float(), targets[supervised], reduction="sum")
