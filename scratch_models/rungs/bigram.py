"""A bigram model: one table whose row i holds the logits of the token that follows token i.

It is the smallest language model that trains, and the floor that a GPT has to beat: its best loss is known in closed
form from the counts of neighbouring tokens.

Shapes: B rows of a batch, T tokens of a row, V vocabulary.
"""

from torch import Tensor, nn

from configs import InputError
from scratch_models.rungs.gpt import KeyValueCache


class BigramLanguageModel(nn.Module):
    """The next token from the last one alone."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        if vocabulary_size < 1:
            raise InputError(f"a bigram model needs a vocabulary_size of at least 1, got {vocabulary_size}")
        self.token_embedding_table = nn.Embedding(vocabulary_size, vocabulary_size)

    def forward(self, input_ids: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits of the next token at every position: (B, T) ids -> (B, T, V).

        `cache` is there because every scratch model takes one; a bigram reads nothing that could be kept in it.
        """
        logits: Tensor = self.token_embedding_table(input_ids)  # (B, T, V)
        return logits
