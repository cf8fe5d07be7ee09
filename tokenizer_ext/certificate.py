"""What an extension changed and what it did not, as numbers that anyone can compute again from the two folders."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.embeddings import find_tables


@dataclass(frozen=True, kw_only=True)
class WeightHashes:
    """sha256 of a model's weights, in two parts."""

    base_rows: str
    """Rows of the base's ids in embedding and head."""
    other_weights: str
    """Every other tensor, by name."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The claims of an extension, each with its number."""

    base_tokens: int
    """Ids before."""
    new_tokens: int
    """Tokens learned from the corpus."""
    control_tokens: int
    """Control tokens added."""
    unreachable_tokens: int
    """New tokens whose own text does not encode to them."""
    moved_ids: int
    """Tokens of the base with another id afterwards."""
    bytes_per_token_before: float
    """UTF-8 bytes of held-out text per token of the base's tokenizer."""
    bytes_per_token_after: float
    """The same with the extended tokenizer."""
    longer_documents: int
    """Held-out documents with more tokens than before."""
    held_out_documents: int
    """Documents of the corpus that no token was learned from."""
    weights_before: WeightHashes
    """Of the base."""
    weights_after: WeightHashes
    """Of the extended model; equal hashes say that not one old weight moved."""

    @property
    def holds(self) -> bool:
        """Whether nothing old moved and every new token can be reached."""
        return self.weights_before == self.weights_after and not (self.moved_ids or self.unreachable_tokens)


def hash_weights(model: nn.Module, base_tokens: int) -> WeightHashes:
    """The hashes of a model whose first `base_tokens` ids are the base's.

    A tensor enters as its name, shape, dtype and bytes, in the order of the names; of embedding and head only the rows of the
    base's ids (for a bigram model, also only their columns).
    """
    tables = find_tables(model)
    table_ids = {id(tables.embedding.weight), id(getattr(tables.head, "weight", None))}
    rows, others = hashlib.sha256(), hashlib.sha256()
    for name, tensor in sorted(model.named_parameters(remove_duplicate=False)):
        if id(tensor) in table_ids:
            kept = tensor[:base_tokens] if tables.head is not None else tensor[:base_tokens, :base_tokens]
            _add(rows, name, kept)
        else:
            _add(others, name, tensor)
    return WeightHashes(base_rows=rows.hexdigest(), other_weights=others.hexdigest())


def count_moved_ids(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many tokens have another id, or none.

    >>> count_moved_ids({"a": 0, "b": 1}, {"a": 0, "c": 1, "b": 2})
    1
    """
    return sum(after.get(token) != id_ for token, id_ in before.items())


def token_lengths(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> list[int]:
    """Tokens of each document, read as plain text."""
    encoded = tokenizer(list(documents), add_special_tokens=False, split_special_tokens=True, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]


def _add(digest: "hashlib._Hash", name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
