"""What an extension changed and what it did not, as numbers that anyone can compute again from the two folders.

The hashes are sha256 over the weights in the order of their names, under the names and in the layout that transformers
writes into `model.safetensors` (a head tied to the embedding is not in there, nor hashed). Of each weight come first
its name and sizes, with spaces between and a line feed after, then its numbers, little-endian; half-precision numbers
as float32, which holds them exactly, so that the type that a model was loaded or saved in does not matter. Of embedding
and head only the rows of the base's ids enter, and these have a hash of their own.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.embeddings import find_tables
from tokenizer_ext.hf_tokenizer import plain_text_encoder
from tokenizer_ext.merge_learning import Merge


@dataclass(frozen=True, kw_only=True)
class WeightHashes:
    """sha256 of a model's weights, in two parts."""

    base_rows: str
    """Rows of the base's ids in embedding and head."""
    other_weights: str
    """Every other weight."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The claims of an extension, each with its number."""

    base_tokens: int
    """Ids before, and the first new id."""
    new_tokens: int
    """Tokens learned from the corpus."""
    control_tokens: int
    """Control tokens added."""
    unreachable_tokens: int
    """New tokens whose own text does not encode to them."""
    moved_ids: int
    """Tokens of the base with another id afterwards, or none."""
    bytes_per_token_before: float
    """UTF-8 bytes of held-out text per token of the base's tokenizer; 0 where there was no text."""
    bytes_per_token_after: float
    """The same with the extended tokenizer."""
    longer_documents: int
    """Held-out documents with more tokens than before."""
    held_out_documents: int
    """Documents that no token was learned from; 0 where there were too few, and all of them were measured."""
    weights_before: WeightHashes
    """Of the base."""
    weights_after: WeightHashes
    """Of the extended model; equal hashes say that not one old weight moved."""

    @property
    def holds(self) -> bool:
        """Whether nothing old moved and every new token can be reached."""
        return self.weights_before == self.weights_after and not (self.moved_ids or self.unreachable_tokens)


def describe(certificate: Certificate) -> str:
    """The certificate for the terminal."""
    before, after = certificate.bytes_per_token_before, certificate.bytes_per_token_after
    held_out = certificate.held_out_documents
    measured = f"{held_out} held-out documents" if held_out else "the corpus itself (too short to hold out)"
    length = (
        f"bytes per token on {measured}: {before:.3f} -> {after:.3f} ({after / before - 1:+.1%}); "
        f"longer documents: {certificate.longer_documents}\n"
        if before
        else ""  # without a corpus there is nothing to measure on
    )
    weights = certificate.weights_after
    same = "unchanged" if certificate.weights_before == weights else "CHANGED"
    return (
        f"{certificate.base_tokens} tokens + {certificate.new_tokens} learned + "
        f"{certificate.control_tokens} control tokens\n"
        f"{length}old ids moved: {certificate.moved_ids}; new tokens that their text does not reach: "
        f"{certificate.unreachable_tokens}\n"
        f"old weights {same}: rows sha256 {weights.base_rows[:16]}…, others {weights.other_weights[:16]}…\n"
        f"certificate {'holds' if certificate.holds else 'DOES NOT HOLD'}"
    )


def hash_weights(model: nn.Module, base_tokens: int) -> WeightHashes:
    """The hashes of a model whose first `base_tokens` ids are the base's; of a bigram table also only their columns."""
    tables = find_tables(model)
    columns = base_tokens if tables.head is None else None
    of_tokens = {id(tables.embedding.weight)} | ({id(tables.head.weight)} if tables.head is not None else set())
    rows, others = hashlib.sha256(), hashlib.sha256()
    for name, weight in _weights_by_name(model):
        if id(weight) in of_tokens:
            _add(rows, name, weight[:base_tokens, :columns])
        else:
            _add(others, name, weight)
    return WeightHashes(base_rows=rows.hexdigest(), other_weights=others.hexdigest())


def count_moved_ids(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many tokens have another id, or none.

    >>> count_moved_ids({"a": 0, "b": 1}, {"a": 0, "c": 1, "b": 2})
    1
    """
    return sum(after.get(token) != id_ for token, id_ in before.items())


def count_unreachable(tokenizer: PreTrainedTokenizerFast, merges: Sequence[Merge]) -> int:
    """How many new tokens are whole text, yet are not what that text encodes to.

    Tokens that are pieces of a character have no text of their own; rule R of `continued_bpe.py` covers those.
    """
    encoder = plain_text_encoder(tokenizer)
    texts = [(merge, merge.token_bytes.decode(errors="ignore")) for merge in merges]
    whole = [(merge, text) for merge, text in texts if text.encode() == merge.token_bytes]
    return sum(encoder.encode(text).ids != [merge.token] for merge, text in whole)


def token_lengths(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> list[int]:
    """Tokens of each document, read as plain text."""
    return [len(encoding) for encoding in plain_text_encoder(tokenizer).encode_batch(list(documents))]


def _weights_by_name(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    # With keep_vars a tied matrix is one object under two names; the embedding's comes first and stands in the file.
    first_names: dict[int, str] = {}
    weights = model.state_dict(keep_vars=True)
    for name, weight in weights.items():
        first_names.setdefault(id(weight), name)
    return ((name, weights[name]) for name in sorted(first_names.values()))


def _add(digest: "hashlib._Hash", name: str, weight: Tensor) -> None:
    weight = weight.detach().cpu()
    if weight.dtype in (torch.float16, torch.bfloat16):
        weight = weight.float()
    digest.update(f"{' '.join(map(str, [name, *weight.shape]))}\n".encode())
    digest.update(weight.reshape(-1).numpy().data)
