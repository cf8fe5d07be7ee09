"""What an extension changed and what it did not, as numbers that anyone can compute again from the two folders.

The hashes are sha256 over the weights in the order of their names, under the names and in the layout that transformers
writes into `model.safetensors` (a head tied to the embedding is not in there, nor hashed). Of each weight come first
its name and sizes, with spaces between and a line feed after, then its numbers, little-endian; half-precision numbers
as float32, which holds them exactly, so that the type that a model was loaded or saved in does not matter. Of embedding
and head, bias included, only the rows of the base's ids enter, and these have a hash of their own.

The hash of a tokenizer is sha256 over JSON (keys sorted, nothing between the parts but `,` and `:`) of what decides the
base's ids in `tokenizer.json`: `vocab`, with the added tokens in it, and `merges`, both up to the base's last id;
`normalizer`; `pre_tokenizer`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.encoders.agreement import EncoderAgreement
from tokenizer_ext.held_weights.mapped_weights import NUMBERS_AT_ONCE, pieces
from tokenizer_ext.held_weights.quantised_layers import originals
from tokenizer_ext.held_weights.stored_layers import HALF
from tokenizer_ext.huggingface.byte_level_backend import bpe_json
from tokenizer_ext.huggingface.tokenizer_state import kept_while_unchanged
from tokenizer_ext.pages.json_records import read_record, write_record
from tokenizer_ext.pages.progress import tracked

CERTIFICATE = "certificate.json"
"""Name of the file in the folder of an extended model."""


@dataclass(frozen=True, kw_only=True)
class WeightHashes:
    """sha256 of a model's weights, in two parts."""

    base_rows: str
    """Rows of the base's ids in embedding and head."""
    other_weights: str
    """Every other weight."""


@dataclass(frozen=True, kw_only=True)
class TokenizerHashes:
    """sha256 of what decides the base's ids."""

    before: str
    """In the base's tokenizer."""
    after: str
    """In the extended one, where nothing new enters."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How many new tokens stand in the ids of a text, by what text it took; `ignore_merges` is off."""

    by_own_text: int = 0
    """The token's text, alone."""
    by_completed_character: int = 0
    """A piece of a character: that character whole."""
    by_corpus_piece: int = 0
    """A piece of the corpus."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of embedding and head."""

    before: int
    """Rows of the base, padding included."""
    after: int
    """Rows of the extended model."""
    padding_used: int
    """New tokens whose row was padding before."""
    tied: bool
    """Whether head and embedding share them."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The claims of an extension, each with its number; one that was not measured is None, or made of 0 documents."""

    base_tokens: int
    """Ids before, and the first new id."""
    new_tokens: int = 0
    """Tokens made of text: characters, those of words, and those learned from the corpus."""
    character_tokens: int = 0
    """Those of them that are characters which a SentencePiece base wrote as bytes."""
    word_tokens: int = 0
    """Those of them that were made for words."""
    control_tokens: int = 0
    """Control tokens added."""
    unreachable_tokens: int | None = None
    """New tokens that no text encodes to."""
    reached: Reached = field(default_factory=Reached)
    """The others, by what text reaches them."""
    moved_ids: int | None = None
    """Tokens of the base with another id after a reload, or none."""
    moved_special_ids: int | None = None
    """Special tokens, old and new, with another id after a reload, or none."""
    bytes_per_token_before: float = 0.0
    """UTF-8 bytes of held-out text per token of the base's tokenizer; 0 where there was no text."""
    bytes_per_token_after: float = 0.0
    """The same with the extended tokenizer."""
    longer_documents: int = 0
    """Measured documents with more tokens than before."""
    unlike_base_documents: int | None = None
    """Texts, those that reach new tokens and those with bytes that the vocabulary lacks included, whose ids are not the
    base's once new tokens are taken apart into what they are made of."""
    measured_documents: int = 0
    """Documents that were measured: those held out, or all of the corpus where there were too few."""
    held_out_documents: int = 0
    """Documents that no token was learned from."""
    duplicate_documents: int = 0
    """Documents left out because one exactly like them was there already."""
    changed_protected_documents: int = 0
    """Protected documents with other ids than before."""
    protected_documents: int = 0
    """Documents that had to keep their ids."""
    refused_tokens: int | None = None
    """Tokens that were not learned because they would have changed a protected document."""
    unequal_after_reload: int = 0
    """Documents whose ids are others after the tokenizer was saved and opened with `AutoTokenizer`."""
    reloaded_documents: int = 0
    """Documents that were encoded by both."""
    encoders: EncoderAgreement = field(default_factory=EncoderAgreement)
    """Of Hugging Face, tiktoken and the readable twin."""
    rows: Rows | None = None
    """Of the tables."""
    tokenizer: TokenizerHashes | None = None
    """Of the base and of the base's part in the extended one."""
    weights_before: WeightHashes
    """Of the base."""
    weights_after: WeightHashes
    """Of the extended model; equal hashes say that not one old weight moved."""
    all_weights_trained: bool = False
    """Whether every weight was trained after the extension, so that the old ones are others on purpose."""
    reopened: bool = False
    """Whether its folder was opened again from the disk and found equal to what was in memory; then the folder holds a
    `manifest.json` (`configs/manifest.py`), without which it is refused."""

    @property
    def flaws(self) -> tuple[str, ...]:
        """The names of the claims that fail."""
        counts = {
            "unreachable_tokens": self.unreachable_tokens,
            "moved_ids": self.moved_ids,
            "moved_special_ids": self.moved_special_ids,
            "longer_documents": self.longer_documents,
            "unlike_base_documents": self.unlike_base_documents,
            "changed_protected_documents": self.changed_protected_documents,
            "unequal_after_reload": self.unequal_after_reload,
            "encoders": self.encoders.unequal_documents,
            "rows": self.rows is not None and self.rows.after < self.rows.before,
            "tokenizer": self.tokenizer is not None and self.tokenizer.before != self.tokenizer.after,
            "weights": self.weights_before != self.weights_after and not self.all_weights_trained,
        }
        return tuple(name for name, count in counts.items() if count)

    @property
    def holds(self) -> bool:
        """Whether nothing old moved, every new token can be reached, and every encoder says the same."""
        return not self.flaws


def write_certificate(certificate: Certificate, folder: str | Path) -> None:
    """Writes `certificate.json` into the folder of a model."""
    write_record(certificate, Path(folder) / CERTIFICATE)


def read_certificate(folder: str | Path) -> Certificate | None:
    """The certificate of a model's folder; None where there is none.

    Raises:
        InputError: it is damaged.

    """
    path = Path(folder) / CERTIFICATE
    if not path.is_file():
        return None
    return read_record(Certificate, path, "the certificate that `python -m tokenizer_ext.extend` writes")


def hash_weights(
    model: nn.Module, base_ids: int | Sequence[int], stored: Callable[[str, int], Iterable[Tensor]] | None = None
) -> WeightHashes:
    """The hashes of a model of which `base_ids` are the base's: so many first ids, or these, in this order.

    A bigram table enters with their columns only; a quantised matrix as it stands on the disk, which it was made of.
    With `stored` the numbers come from there, the first so many rows of a name, and not from the model.
    """
    tables = find_tables(model)
    ids = slice(base_ids) if isinstance(base_ids, int) else list(base_ids)
    token_weights = {id(tables.embedding.weight)}
    if tables.head is not None:
        token_weights |= {id(tables.head.weight), id(tables.head.bias)}
    rows, others, on_disk = hashlib.sha256(), hashlib.sha256(), originals(model)
    for name, held in tracked(_weights_by_name(model), "hashing the weights", "tensors"):
        weight = on_disk[id(held)].read() if id(held) in on_disk else held
        is_table = id(weight) in token_weights
        if is_table:
            weight = weight[ids][:, ids] if tables.head is None else weight[ids]
        _add(rows if is_table else others, name, weight, None if stored is None else stored(name, len(weight)))
    return WeightHashes(base_rows=rows.hexdigest(), other_weights=others.hexdigest())


def hash_tokenizer(tokenizer: PreTrainedTokenizerFast, base_tokens: int) -> str:
    """The hash of what decides the ids below `base_tokens`: the base's own, and unmoved in the extended tokenizer."""
    backend = bpe_json(tokenizer)
    ids = backend["model"]["vocab"] | {added["content"]: added["id"] for added in backend["added_tokens"]}
    old = {token: id_ for token, id_ in ids.items() if id_ < base_tokens}
    merges = [[left, right] for left, right in backend["model"]["merges"] if left + right in old]
    parts = {"vocab": old, "merges": merges} | {name: backend[name] for name in ("normalizer", "pre_tokenizer")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _weights_by_name(model: nn.Module) -> list[tuple[str, Tensor]]:
    # With keep_vars a tied matrix is one object under two names; the embedding's comes first and stands in the file.
    first_names: dict[int, str] = {}
    weights = model.state_dict(keep_vars=True)
    for name, weight in weights.items():
        first_names.setdefault(id(weight), name)
    return [(name, weights[name]) for name in sorted(first_names.values())]


def _add(digest: "hashlib._Hash", name: str, weight: Tensor, stored: Iterable[Tensor] | None) -> None:
    digest.update(f"{' '.join(map(str, [name, *weight.shape]))}\n".encode())
    for whole in pieces(weight) if stored is None else stored:
        for part in whole.detach().reshape(-1).split(NUMBERS_AT_ONCE):  # in single precision all would fill the memory
            numbers = part.cpu()
            digest.update((numbers.float() if numbers.dtype in HALF else numbers).numpy().data)


def weights_sha256(weights: WeightHashes) -> str:
    """One hash of all weights of a base.

    >>> weights_sha256(WeightHashes(base_rows="aa", other_weights="bb"))[:12]
    '486b34250bd4'
    """
    return hashlib.sha256(f"{weights.base_rows}{weights.other_weights}".encode()).hexdigest()


@kept_while_unchanged
def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """The hash of what `tokenizer.json` would hold."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
