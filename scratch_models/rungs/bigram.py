"""A bigram model: one table whose row i holds the logits of the token that follows token i.

It is the smallest language model that trains, and the floor that a GPT has to beat: its best loss is known in closed
form from the counts of neighbouring tokens.

Shapes: B rows of a batch, T tokens of a row, V vocabulary.
"""

import torch
from torch import Tensor, nn

from configs import InputError
from scratch_models.corpus.stored_ids import StoredIds

IDS_AT_ONCE = 2**20


class BigramLanguageModel(nn.Module):
    """The next token from the last one alone."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        if vocabulary_size < 1:
            raise InputError(f"a bigram model needs a vocabulary_size of at least 1, got {vocabulary_size}")
        self.token_embedding_table = nn.Embedding(vocabulary_size, vocabulary_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at every position: (B, T) ids -> (B, T, V)."""
        logits: Tensor = self.token_embedding_table(input_ids)  # (B, T, V)
        return logits


@torch.no_grad()
def bigram_of_counts(ids: Tensor | StoredIds, vocabulary_size: int) -> BigramLanguageModel:
    """The model whose probabilities are the counts of neighbouring ids plus one: no gradient, one pass.

    The one that is added (Laplace's rule of succession) leaves a chance to pairs that the text does not hold.

    >>> model = bigram_of_counts(torch.tensor([0, 1, 0, 1, 0]), 2)
    >>> model(torch.tensor([[0]])).exp()[0, 0].tolist()
    [0.25, 0.75]
    """
    model = BigramLanguageModel(vocabulary_size)
    counts = torch.ones(vocabulary_size**2, dtype=torch.long)
    for start in range(0, len(ids) - 1, IDS_AT_ONCE):
        some = ids[start : start + IDS_AT_ONCE + 1].long()
        counts += torch.bincount(some[:-1] * vocabulary_size + some[1:], minlength=vocabulary_size**2)
    counts = counts.view(vocabulary_size, vocabulary_size)
    model.token_embedding_table.weight.copy_((counts / counts.sum(dim=1, keepdim=True)).log())  # (V, V)
    return model
