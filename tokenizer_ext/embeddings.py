"""Rows for new tokens in the tables of a model: grown without moving an old one, trained alone, folded back.

Works on Hugging Face causal models and on the models of `scratch_models` (`token_embedding_table`, `lm_head`), tied or untied.
While new rows train apart, the old table is a frozen tensor that no optimizer sees: AdamW decays every row it holds, gradient
or not, so the old rows must not be in its list at all. Nothing of the table's size is copied or given a gradient.

Shapes: V ids before, N new tokens, D width; R rows of the table before (R > V where it is padded).
"""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import InputError


class Tables(NamedTuple):
    """The modules of a model whose rows belong to tokens."""

    embedding: nn.Embedding
    head: nn.Linear | None
    """None for a bigram model, whose one table is both."""

    @property
    def tied(self) -> bool:
        """Whether head and embedding share one matrix."""
        return self.head is not None and self.head.weight is self.embedding.weight


def find_tables(model: nn.Module) -> Tables:
    """The embedding and the head of a model.

    Raises:
        InputError: they are no plain `nn.Embedding` and `nn.Linear`, or the head has a bias.

    """
    if hasattr(model, "get_input_embeddings"):
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    else:
        embedding, head = getattr(model, "token_embedding_table", None), getattr(model, "lm_head", None)
    is_bigram = (
        isinstance(embedding, nn.Embedding) and head is None and embedding.weight.shape[0] == embedding.weight.shape[1]
    )
    if not isinstance(embedding, nn.Embedding) or not (is_bigram or isinstance(head, nn.Linear)):
        raise InputError(
            f"{type(model).__name__}: embedding is {type(embedding).__name__} and head {type(head).__name__}, expected "
            "nn.Embedding and nn.Linear: new rows go into plain tables only"
        )
    if head is not None and head.bias is not None:
        raise InputError(
            f"{type(model).__name__}: the head has a bias, expected none: such heads cannot be extended yet"
        )
    return Tables(embedding, head)


def grow_rows(model: nn.Module, first_new_id: int, input_rows: Tensor, output_rows: Tensor | None = None) -> None:
    """Writes rows for the ids from `first_new_id` on, in place: into padding rows first, then into new ones; none is removed.

    Args:
        model: A causal model; its other weights and the rows of older ids keep every bit.
        first_new_id: V, the id after the last one in use.
        input_rows: Start rows of the embedding: (N, D); for a bigram model (N, V + N).
        output_rows: Start rows of an untied head: (N, D); for a bigram model the columns (V, N) that score the new tokens
            after an old one.

    Raises:
        InputError: the shapes do not fit the tables.

    """
    tables = find_tables(model)
    rows = max(tables.embedding.num_embeddings, first_new_id + len(input_rows))
    if tables.head is None:
        _grow_bigram(tables.embedding, first_new_id, input_rows, output_rows)
    else:
        was_tied = tables.tied
        _check_start_rows(tables, input_rows, output_rows)
        _write_rows(tables.embedding, rows, first_new_id, input_rows)
        tables.embedding.num_embeddings = tables.head.out_features = rows
        if was_tied:
            tables.head.weight = tables.embedding.weight
        else:
            _write_rows(tables.head, rows, first_new_id, input_rows if output_rows is None else output_rows)
    _note_rows(model, rows)


def separate_new_rows(model: nn.Module, first_new_id: int, new_tokens: int) -> None:
    """Makes the rows of the new ids parameters of their own, and freezes everything else, in place.

    Afterwards `new_row_parameters` names all that trains; `fold` writes it back.
    """
    model.requires_grad_(False)
    tables = find_tables(model)
    if tables.head is None:
        _replace(model, tables.embedding, ExtendedBigramTable(tables.embedding, first_new_id, new_tokens))
        return
    embedding = ExtendedEmbedding(tables.embedding, first_new_id, new_tokens)
    head = ExtendedHead(tables.head, embedding if tables.tied else None, first_new_id, new_tokens)
    _replace(model, tables.embedding, embedding)
    _replace(model, tables.head, head)


def new_row_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that `separate_new_rows` made, by name; one for a tied model, two for an untied one."""
    kinds = (ExtendedEmbedding, ExtendedHead, ExtendedBigramTable)
    inside = {
        id(parameter) for module in model.modules() if isinstance(module, kinds) for parameter in module.parameters()
    }
    return {
        name: p for name, p in model.named_parameters() if id(p) in inside and name.split(".")[-1].startswith("new_")
    }


def fold(model: nn.Module) -> None:
    """Writes the new rows into the plain tables and puts those back, in place."""
    extended = [
        module
        for module in model.modules()
        if isinstance(module, ExtendedEmbedding | ExtendedHead | ExtendedBigramTable)
    ]
    if not extended:
        raise InputError(f"{type(model).__name__}: no separate new rows to fold: call separate_new_rows first")
    for module in extended:
        _replace(model, module, module.folded())


class ExtendedEmbedding(nn.Module):
    """A lookup in a frozen table, except that the new ids are looked up in rows of their own."""

    def __init__(self, table: nn.Embedding, first_new_id: int, new_tokens: int) -> None:
        super().__init__()
        self.table = table
        self.first_new_id, self.new_tokens = first_new_id, new_tokens
        self.new_rows = nn.Parameter(table.weight.detach()[first_new_id : first_new_id + new_tokens].clone())  # (N, D)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Rows of the ids: (B, T) -> (B, T, D)."""
        places = input_ids - self.first_new_id
        is_new = (places >= 0) & (places < self.new_tokens)  # (B, T)
        old = self.table(input_ids.masked_fill(is_new, 0))  # (B, T, D)
        new = F.embedding(places.clamp(0, self.new_tokens - 1), self.new_rows)  # (B, T, D)
        return torch.where(is_new.unsqueeze(-1), new, old)

    def folded(self) -> nn.Embedding:
        """The plain table with the new rows in their places."""
        with torch.no_grad():
            self.table.weight[self.first_new_id : self.first_new_id + self.new_tokens] = self.new_rows
        return self.table


class ExtendedHead(nn.Module):
    """A head over a frozen table, except that the new ids are scored by rows of their own, or by the tied embedding's."""

    def __init__(self, head: nn.Linear, tied_to: ExtendedEmbedding | None, first_new_id: int, new_tokens: int) -> None:
        super().__init__()
        self.head = head
        self.first_new_id, self.end = first_new_id, first_new_id + new_tokens
        self.tied = tied_to is not None
        own = nn.Parameter(head.weight.detach()[first_new_id : self.end].clone())  # (N, D)
        self.new_rows = tied_to.new_rows if tied_to is not None else own

    @property
    def in_features(self) -> int:
        """D."""
        return self.head.in_features

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits in the order of the ids: (..., D) -> (..., V + N), or (..., R) where padding rows are left."""
        parts = (self.head.weight[: self.first_new_id], self.new_rows, self.head.weight[self.end :])
        return torch.cat([F.linear(hidden, rows) for rows in parts if len(rows)], dim=-1)

    def folded(self) -> nn.Linear:
        """The plain head; a tied one already holds what the embedding folded."""
        if not self.tied:
            with torch.no_grad():
                self.head.weight[self.first_new_id : self.end] = self.new_rows
        return self.head


class ExtendedBigramTable(nn.Module):
    """A bigram table in which the rows of new tokens, and their columns in old rows, are parameters of their own."""

    def __init__(self, table: nn.Embedding, first_new_id: int, new_tokens: int) -> None:
        super().__init__()
        self.table = table
        self.first_new_id, self.new_tokens = first_new_id, new_tokens
        self.new_rows = nn.Parameter(table.weight.detach()[first_new_id:].clone())  # (N, V + N)
        self.new_columns = nn.Parameter(table.weight.detach()[:first_new_id, first_new_id:].clone())  # (V, N)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits after each id: (B, T) -> (B, T, V + N)."""
        is_new = input_ids >= self.first_new_id  # (B, T)
        old_ids = input_ids.masked_fill(is_new, 0)
        of_old = self.table(old_ids)[..., : self.first_new_id]  # (B, T, V)
        after_old = torch.cat([of_old, F.embedding(old_ids, self.new_columns)], dim=-1)  # (B, T, V + N)
        after_new = F.embedding((input_ids - self.first_new_id).clamp(min=0), self.new_rows)  # (B, T, V + N)
        return torch.where(is_new.unsqueeze(-1), after_new, after_old)

    def folded(self) -> nn.Embedding:
        """The plain table with the new rows and columns in their places."""
        with torch.no_grad():
            self.table.weight[self.first_new_id :] = self.new_rows
            self.table.weight[: self.first_new_id, self.first_new_id :] = self.new_columns
        return self.table


def _check_start_rows(tables: Tables, input_rows: Tensor, output_rows: Tensor | None) -> None:
    expected = (len(input_rows), tables.embedding.embedding_dim)
    for name, rows in (("input_rows", input_rows), ("output_rows", output_rows)):
        if rows is not None and tuple(rows.shape) != expected:
            raise InputError(
                f"{name}: shape is {tuple(rows.shape)}, expected {expected}: one row of the table's width a token"
            )


def _write_rows(module: nn.Embedding | nn.Linear, rows: int, first_new_id: int, start_rows: Tensor) -> None:
    old = module.weight.detach()
    table = old.new_zeros(rows, old.shape[1])
    table[: len(old)] = old
    table[first_new_id : first_new_id + len(start_rows)] = start_rows.to(old)
    module.weight = nn.Parameter(table, requires_grad=module.weight.requires_grad)


def _grow_bigram(table: nn.Embedding, first_new_id: int, new_rows: Tensor, new_columns: Tensor | None) -> None:
    size = first_new_id + len(new_rows)
    old = table.weight.detach()
    if len(old) != first_new_id or new_rows.shape[1] != size or new_columns is None:
        raise InputError(
            f"bigram table of {len(old)} rows: first_new_id is {first_new_id} and new rows have shape {tuple(new_rows.shape)}, "
            f"expected {len(old)} and ({len(new_rows)}, {len(old) + len(new_rows)}), with columns as output_rows"
        )
    grown = old.new_zeros(size, size)
    grown[:first_new_id, :first_new_id] = old
    grown[:first_new_id, first_new_id:] = new_columns
    grown[first_new_id:] = new_rows
    table.weight = nn.Parameter(grown, requires_grad=table.weight.requires_grad)
    table.num_embeddings = table.embedding_dim = size


def _note_rows(model: nn.Module, rows: int) -> None:
    config = getattr(model, "config", None)
    if dataclasses.is_dataclass(config) and hasattr(config, "vocabulary_size"):
        model.config = dataclasses.replace(config, vocabulary_size=rows)  # type: ignore[type-var, assignment]
    elif config is not None:
        config.get_text_config().vocab_size = rows
        if hasattr(model, "vocab_size"):
            model.vocab_size = rows


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    # A list first: modules() must not meet the new module, which holds the old one.
    places = [(owner, name) for owner in model.modules() for name, child in owner.named_children() if child is old]
    for owner, name in places:
        setattr(owner, name, new)
