"""Tables in which the rows of new tokens are parameters of their own, beside the frozen rows of all other tokens.

No optimizer sees the frozen table: AdamW decays every row it holds, gradient or not, so the old rows must not be in its
list at all. Nothing of the table's size is copied or given a gradient. The table is a frozen parameter and no buffer:
DDP sends buffers round in every step, and FSDP shards parameters alone.

Shapes: B rows of a batch, T tokens of a row, V ids before, N new tokens, D width; R rows of the table (more than V + N
where it is padded).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer_ext.held_weights.stored_layers import HALF, HeldLayer, StoredEmbedding


class ExtendedEmbedding(nn.Module):
    """A lookup in a frozen table, except that the new ids are looked up in rows of their own."""

    def __init__(self, table: nn.Embedding, first_new_id: int, new_tokens: int) -> None:
        super().__init__()
        self.table = table
        self.first_new_id, self.new_tokens = first_new_id, new_tokens
        self.new_rows = _trained_copy(table, table.weight[first_new_id : first_new_id + new_tokens])  # (N, D)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Rows of the ids: (B, T) -> (B, T, D)."""
        places = input_ids - self.first_new_id
        is_new = (places >= 0) & (places < self.new_tokens)  # (B, T)
        old = self.table(input_ids)  # (B, T, D)
        new = F.embedding(places.clamp(0, self.new_tokens - 1), self.new_rows)  # (B, T, D)
        scale = getattr(self.table, "embed_scale", None)  # of Gemma 3's table
        if scale is not None:
            new = new * torch.as_tensor(scale).to(new)
        return torch.where(is_new.unsqueeze(-1), new.to(old.dtype), old)

    def folded(self) -> nn.Embedding:
        """The plain table with the new rows in their places."""
        with torch.no_grad():
            self.table.weight[self.first_new_id : self.first_new_id + self.new_tokens] = self.new_rows
        return self.table


class ExtendedHead(nn.Module):
    """A head over a frozen table, except that rows of their own, or those of a tied embedding, score the new ids.

    Where the head has a bias, those of the new ids train too: they say how frequent a token is, which no start knows.
    """

    def __init__(self, head: nn.Linear, tied_to: ExtendedEmbedding | None, first_new_id: int, new_tokens: int) -> None:
        super().__init__()
        self.head = head
        self.first_new_id, self.end = first_new_id, first_new_id + new_tokens
        new_ids = slice(first_new_id, self.end)
        # (N, D), and (N,)
        self.new_rows = _trained_copy(head, head.weight[new_ids]) if tied_to is None else tied_to.new_rows
        self.new_biases = None if head.bias is None else nn.Parameter(head.bias.detach()[new_ids].clone())

    def segments(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias of the old, the new and the padding rows: views of the table, and the parameters."""
        weight, bias = self.head.weight, self.head.bias
        before, after = slice(None, self.first_new_id), slice(self.end, None)
        parts = [
            (weight[before], None if bias is None else bias[before]),
            (self.new_rows, self.new_biases),
            (weight[after], None if bias is None else bias[after]),
        ]
        return [(rows, biases) for rows, biases in parts if len(rows)]

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits in the order of the ids, (..., D) -> (..., R): for replies; training takes `segments`."""
        segments = self.segments()
        if isinstance(self.head, HeldLayer):
            segments = [(rows.to(hidden.dtype), biases) for rows, biases in segments]
        return torch.cat([F.linear(hidden, rows, biases) for rows, biases in segments], dim=-1)  # (..., R)

    def folded(self) -> nn.Linear:
        """The plain head with the new rows, and their biases, in their places."""
        with torch.no_grad():
            self.head.weight[self.first_new_id : self.end] = self.new_rows
            if self.new_biases is not None:
                self.head.bias[self.first_new_id : self.end] = self.new_biases
        return self.head


class ExtendedBigramTable(nn.Module):
    """A bigram table in which the rows of new tokens, and their columns in old rows, are parameters of their own."""

    def __init__(self, table: nn.Embedding, first_new_id: int) -> None:
        super().__init__()
        self.table = table
        self.first_new_id = first_new_id
        self.new_rows = nn.Parameter(table.weight.detach()[first_new_id:].clone())  # (N, V + N)
        self.new_columns = nn.Parameter(table.weight.detach()[:first_new_id, first_new_id:].clone())  # (V, N)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits after each id: (B, T) -> (B, T, V + N)."""
        is_new = input_ids >= self.first_new_id  # (B, T)
        after_old = torch.cat(
            [
                self.table(input_ids)[..., : self.first_new_id],  # (B, T, V)
                F.embedding(input_ids.masked_fill(is_new, 0), self.new_columns),  # (B, T, N)
            ],
            dim=-1,
        )  # (B, T, V + N)
        after_new = F.embedding((input_ids - self.first_new_id).clamp(min=0), self.new_rows)  # (B, T, V + N)
        return torch.where(is_new.unsqueeze(-1), after_new, after_old)

    def folded(self) -> nn.Embedding:
        """The plain table with the new rows and columns in their places."""
        with torch.no_grad():
            self.table.weight[self.first_new_id :] = self.new_rows
            self.table.weight[: self.first_new_id, self.first_new_id :] = self.new_columns
        return self.table


def _trained_copy(module: nn.Module, rows: Tensor) -> nn.Parameter:
    """Rows that train, in single precision where their module holds its own in half."""
    copied = rows.detach().clone()
    is_held = isinstance(module, HeldLayer | StoredEmbedding) and copied.dtype in HALF
    return nn.Parameter(copied.float() if is_held else copied)
