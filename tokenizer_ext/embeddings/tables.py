"""Rows for new tokens in the tables of a model: grown without moving an old one, trained alone, folded back.

Works on Hugging Face causal models and on the models of `scratch_models` (`token_embedding_table`, `lm_head`), tied or
untied. Rows of new tokens that train alone live in the modules of `extended_tables.py`.

Shapes: V ids before, N new tokens, D width; R rows of a table (more than V where it is padded).
"""

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from configs import InputError
from tokenizer_ext.embeddings.extended_tables import ExtendedBigramTable, ExtendedEmbedding, ExtendedHead
from tokenizer_ext.held_weights.stored_layers import is_linear, is_lookup


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
        InputError: they are no lookup and `nn.Linear` of as many rows.

    """
    owner: Any = model
    if hasattr(model, "token_embedding_table"):
        embedding, head = owner.token_embedding_table, getattr(model, "lm_head", None)
        is_bigram = head is None
    else:
        embedding, head = owner.get_input_embeddings(), owner.get_output_embeddings()
        is_bigram = False
    if not is_lookup(embedding) or not (is_bigram or is_linear(head)):
        raise InputError(
            f"{type(model).__name__}: found {type(embedding).__name__} as embedding and {type(head).__name__} as head, "
            "expected nn.Embedding and nn.Linear: new rows go into plain tables only"
        )
    if head is not None and head.out_features != embedding.num_embeddings:
        raise InputError(f"{type(model).__name__}: found {head} over {embedding}, expected as many rows in both")
    return Tables(embedding, None if is_bigram else head)


def grow_rows(
    model: nn.Module,
    first_new_id: int,
    input_rows: Tensor,
    output_rows: Tensor | None = None,
    *,
    output_biases: Tensor | None = None,
    multiple: int = 1,
) -> None:
    """Writes rows for the ids from `first_new_id` on, in place: into padding rows first, then into new ones.

    No row is removed, and older ones and all other weights keep every bit. Padding rows that are new are the mean of
    the old rows: a row of zeros would be more likely than most words in a model whose logits are far below 0.

    Args:
        model: A causal model.
        first_new_id: V, the id after the last one in use.
        input_rows: Start rows of the embedding: (N, D); for a bigram model (N, V + N).
        output_rows: Start rows of an untied head, (N, D), or for a bigram model the columns (V, N), which score the new
            tokens after an old one; None for a tied head.
        output_biases: Start biases of a head that has some, (N,); by default the mean of the old ones.
        multiple: The number of rows becomes a multiple of it, by padding rows at the end; a bigram model takes none.

    Raises:
        InputError: the shapes do not fit the tables, or an id in use has no row.

    """
    tables = find_tables(model)
    _check_start_rows(tables, first_new_id, input_rows, output_rows)
    _check_biases_and_multiple(tables, len(input_rows), output_biases, multiple)
    needed, was_tied = max(tables.embedding.num_embeddings, first_new_id + len(input_rows)), tables.tied
    rows = needed + -needed % multiple
    if tables.head is None:
        _grow_columns(tables.embedding, output_rows)
    tables.embedding.weight = _grown(tables.embedding.weight, rows, first_new_id, input_rows)
    tables.embedding.num_embeddings = rows
    if (head := tables.head) is not None:
        head.weight = tables.embedding.weight if was_tied else _grown(head.weight, rows, first_new_id, output_rows)
        _grow_biases(head, first_new_id, len(input_rows), output_biases)
    _note_rows(model, rows)


def separate_new_rows(model: nn.Module, first_new_id: int, new_tokens: int) -> None:
    """Makes the rows of the new ids parameters of their own, and freezes everything else, in place.

    Afterwards `new_row_parameters` names all that trains, and `fold` writes it back.

    Raises:
        InputError: a new id has no row.

    """
    tables = find_tables(model)
    rows = tables.embedding.num_embeddings
    if not 0 < new_tokens <= rows - first_new_id:
        raise InputError(
            f"{type(model).__name__}: its tables have {rows} rows, expected rows for {new_tokens} new tokens from id "
            f"{first_new_id} on: grow the rows first"
        )
    model.requires_grad_(False)
    if tables.head is None:
        _replace(model, tables.embedding, ExtendedBigramTable(tables.embedding, first_new_id))
        return
    embedding = ExtendedEmbedding(tables.embedding, first_new_id, new_tokens)
    head = ExtendedHead(tables.head, embedding if tables.tied else None, first_new_id, new_tokens)
    _replace(model, tables.embedding, embedding)
    _replace(model, tables.head, head)


def new_row_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that `separate_new_rows` made, by name.

    The rows of the embedding come first, then those of an untied head, then the biases of a head that has some.
    """
    own = {id(parameter) for module in _extended_tables(model) for parameter in module.parameters(recurse=False)}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in own}


def fold(model: nn.Module) -> None:
    """Writes the new rows into the plain tables and puts those back, in place; what was frozen stays so.

    Raises:
        InputError: there are no separate new rows, or no process holds them whole (FSDP).

    """
    extended = _extended_tables(model)
    if not extended:
        raise InputError(f"{type(model).__name__}: no separate new rows to fold: call separate_new_rows first")
    if any(hasattr(rows, "full_tensor") for rows in new_row_parameters(model).values()):
        raise InputError(
            f"{type(model).__name__}: its new rows are sharded over processes: copy the full_tensor() of each of "
            "new_row_parameters into the base with separate new rows of its own, and fold that"
        )
    for module in extended:
        _replace(model, module, module.folded())


def _extended_tables(model: nn.Module) -> list[ExtendedEmbedding | ExtendedHead | ExtendedBigramTable]:
    kinds = ExtendedEmbedding | ExtendedHead | ExtendedBigramTable
    return [module for module in model.modules() if isinstance(module, kinds)]


def _check_start_rows(tables: Tables, first_new_id: int, input_rows: Tensor, output_rows: Tensor | None) -> None:
    rows, width = tables.embedding.weight.shape
    new_tokens = len(input_rows)
    if first_new_id > rows or (tables.head is None and first_new_id != rows):
        raise InputError(
            f"the embedding has {rows} rows and the tokenizer ids up to {first_new_id - 1}, expected a row for each "
            "id: give the model and the tokenizer that belong together"
        )
    expected: tuple[tuple[int, int], tuple[int, int] | None] = ((new_tokens, width), (new_tokens, width))
    if tables.head is None:
        expected = ((new_tokens, width + new_tokens), (width, new_tokens))
    elif tables.tied:
        expected = ((new_tokens, width), None)
    found = (tuple(input_rows.shape), None if output_rows is None else tuple(output_rows.shape))
    if found != expected:
        raise InputError(f"input_rows and output_rows: found shapes {found}, expected {expected}")


def _check_biases_and_multiple(tables: Tables, new_tokens: int, output_biases: Tensor | None, multiple: int) -> None:
    if output_biases is not None:
        expected = None if tables.head is None or tables.head.bias is None else (new_tokens,)
        if tuple(output_biases.shape) != expected:
            raise InputError(f"output_biases: found shape {tuple(output_biases.shape)}, expected {expected}")
    if multiple < 1 or (tables.head is None and multiple > 1):
        expected_number = "at least 1" if tables.head is not None else "1: a bigram table has a row for each column"
        raise InputError(f"multiple: found {multiple}, expected {expected_number}")


@torch.no_grad()
def _grown(table: Tensor, rows: int, first_new_id: int, start_rows: Tensor | None) -> nn.Parameter:
    """The table, or biases, with `rows` rows; what it has no start rows for and did not hold is the old rows' mean."""
    assert start_rows is not None
    grown = table.new_empty(rows, *table.shape[1:])
    grown[: len(table)] = table
    if rows > max(len(table), first_new_id + len(start_rows)):
        grown[len(table) :] = table[:first_new_id].mean(dim=0, dtype=torch.float32)
    grown[first_new_id : first_new_id + len(start_rows)] = start_rows.to(grown)
    return nn.Parameter(grown, requires_grad=table.requires_grad)


def _grow_biases(head: nn.Linear, first_new_id: int, new_tokens: int, start_biases: Tensor | None) -> None:
    """Has a head whose rows have grown know their number, and have as many biases where it has some."""
    head.out_features = len(head.weight)
    if head.bias is not None:
        mean = head.bias[:first_new_id].mean().expand(new_tokens)
        head.bias = _grown(head.bias, head.out_features, first_new_id, mean if start_biases is None else start_biases)


def _grow_columns(table: nn.Embedding, new_columns: Tensor | None) -> None:
    assert new_columns is not None
    old = table.weight.detach()
    grown = old.new_zeros(len(old), old.shape[1] + new_columns.shape[1])  # (V, V + N)
    grown[:, : old.shape[1]] = old
    grown[:, old.shape[1] :] = new_columns
    table.weight = nn.Parameter(grown, requires_grad=table.weight.requires_grad)
    table.embedding_dim = grown.shape[1]


def _note_rows(model: nn.Module, rows: int) -> None:
    noted: Any = model
    config: Any = getattr(model, "config", None)
    if hasattr(config, "vocabulary_size"):  # of a scratch model, and frozen
        noted.config = dataclasses.replace(config, vocabulary_size=rows)
    elif config is not None:
        config.get_text_config().vocab_size = noted.vocab_size = rows  # as transformers' own resize notes them


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    # A list first: modules() must not meet the new module, which holds the old one.
    places = [(owner, name) for owner in model.modules() for name, child in owner.named_children() if child is old]
    for owner, name in places:
        setattr(owner, name, new)
