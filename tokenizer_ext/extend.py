"""Gives a model and its tokenizer new tokens, learned from a corpus, without moving anything that it has.

    python -m tokenizer_ext.extend --base DIR --corpus FILE --new_tokens 1000 --output_dir DIR

It learns merges on top of the tokenizer's own, grows the tables by start rows for them, checks what moved, and writes a
plain Hugging Face folder with `certificate.json`. Train the new rows next: `accelerate launch finetune/new_rows.py`.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, MissingInput, run_entry
from tokenizer_ext.certificate import Certificate, count_moved_ids, hash_weights, token_lengths
from tokenizer_ext.continued_bpe import Merge, assert_reachable, count_pieces, learn_merges
from tokenizer_ext.embeddings import find_tables, grow_rows
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.hf_tokenizer import add_control_tokens, append_merges, next_token_id, plain_text_encoder, token_bytes
from tokenizer_ext.row_init import Start, start_rows

HELD_OUT_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class ExtendSettings:
    """An extension of a vocabulary."""

    base: str
    """Model to extend: a Hugging Face folder or Hub name with a byte-level BPE tokenizer (GPT-2, Llama 3, Qwen, OLMo)."""
    corpus: str
    """Text file (UTF-8) of the domain; documents are separated by blank lines."""
    output_dir: str
    """New folder for the extended model, its tokenizer and the certificate."""
    new_tokens: int = 1000
    """Tokens to learn."""
    minimum_count: int = 2
    """How often the corpus must hold a pair for it to become a token."""
    digits: bool = False
    """Whether tokens with digits may be learned; arithmetic is easier without them."""
    start: Start = "subtoken_mean"
    """Start of the new rows."""
    seed: int = 0
    """Seed of the start rows that are drawn."""


@dataclass(frozen=True)
class Extended:
    """A model with more tokens than its base, and what is proved of it."""

    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    certificate: Certificate
    first_new_id: int
    """Ids from here on are new: first the learned tokens, then the control tokens."""
    merges: tuple[Merge, ...]
    """The learned tokens, in the order of their ids."""

    def save(self, folder: str | Path) -> Path:
        """Writes a plain Hugging Face folder, and `certificate.json` beside the weights."""
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        certificate = dataclasses.asdict(self.certificate)
        (folder / "certificate.json").write_text(json.dumps(certificate, indent=2) + "\n", encoding="utf-8")
        return folder


def main(settings: ExtendSettings) -> None:
    """Reads the corpus, extends, certifies, saves."""
    output_dir = Path(settings.output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise InputError(f"output_dir {output_dir}: is not an empty folder: choose a new one")
    extended = extend_vocabulary(
        settings.base,
        corpus=read_documents(settings.corpus),
        new_tokens=settings.new_tokens,
        minimum_count=settings.minimum_count,
        digits=settings.digits,
        start=settings.start,
        seed=settings.seed,
    )
    folder = extended.save(output_dir)
    print(describe(extended.certificate))
    print(f"Longest new tokens: {longest_tokens(extended.merges)}")
    print(f"Saved: {folder}")


def extend_vocabulary(
    base: str | tuple[PreTrainedModel, PreTrainedTokenizerFast],
    *,
    corpus: Iterable[str],
    new_tokens: int = 1000,
    control_tokens: Sequence[str] = (),
    minimum_count: int = 2,
    digits: bool = False,
    start: Start = "subtoken_mean",
    seed: int = 0,
) -> Extended:
    """The base with tokens learned from the corpus, then control tokens, and start rows for all of them.

    Every tenth document is held out of the learning and measures bytes per token. A base given as model and tokenizer is
    changed in place.

    Raises:
        InputError: the tokenizer is no byte-level BPE, the corpus is empty or does not support so many tokens.

    """
    model, tokenizer = (load_model(base), load_tokenizer(base)) if isinstance(base, str) else base
    documents = [text for text in corpus if text]
    held_out = documents[::HELD_OUT_EVERY] if len(documents) > HELD_OUT_EVERY else documents
    to_learn = [text for place, text in enumerate(documents) if place % HELD_OUT_EVERY] or documents
    merges: list[Merge] = []
    if new_tokens:
        merges = learn_tokens(tokenizer, to_learn, new_tokens, minimum_count=minimum_count, digits=digits)
    base_tokens = next_token_id(tokenizer)
    before = hash_weights(model, base_tokens)
    extended_tokenizer = add_control_tokens(append_merges(tokenizer, merges), control_tokens)
    assert_reachable(extended_tokenizer, merges)
    _grow(model, tokenizer, merges, len(control_tokens), start, seed)
    lengths = token_lengths(tokenizer, held_out), token_lengths(extended_tokenizer, held_out)
    text_bytes = sum(len(text.encode()) for text in held_out)
    certificate = Certificate(
        base_tokens=base_tokens,
        new_tokens=len(merges),
        control_tokens=len(control_tokens),
        unreachable_tokens=count_unreachable(extended_tokenizer, merges),
        moved_ids=count_moved_ids(tokenizer.get_vocab(), extended_tokenizer.get_vocab()),
        bytes_per_token_before=text_bytes / max(sum(lengths[0]), 1),
        bytes_per_token_after=text_bytes / max(sum(lengths[1]), 1),
        longer_documents=sum(after > then for then, after in zip(*lengths, strict=True)),
        held_out_documents=len(held_out) if len(documents) > HELD_OUT_EVERY else 0,
        weights_before=before,
        weights_after=hash_weights(model, base_tokens),
    )
    return Extended(extended_tokenizer, model, certificate, base_tokens, tuple(merges))


def learn_tokens(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], new_tokens: int, *, minimum_count: int, digits: bool
) -> list[Merge]:
    """Merges for new tokens, on top of the tokenizer's own.

    Raises:
        InputError: the texts are empty or support fewer tokens.

    """
    if new_tokens < 0 or minimum_count < 1:
        raise InputError(f"new_tokens {new_tokens}, minimum_count {minimum_count}: expected 0 or more, and 1 or more")
    if not texts:
        raise InputError("corpus: no text in it, expected documents to learn tokens from")
    allow: Callable[[bytes], bool] | None = None if digits else _holds_no_digit
    pieces = count_pieces(texts, tokenizer)
    first_id = next_token_id(tokenizer)
    known = token_bytes(tokenizer)
    merges = learn_merges(
        pieces, known, new_tokens=new_tokens, first_id=first_id, minimum_count=minimum_count, allow=allow
    )
    if len(merges) < new_tokens:
        raise InputError(
            f"new_tokens: asked for {new_tokens}, the corpus supports {len(merges)} that occur {minimum_count} times or more: "
            "ask for fewer, or give more text"
        )
    return merges


def read_documents(path: str | Path) -> list[str]:
    """The documents of a text file: paragraphs, as blank lines separate them.

    Raises:
        InputError: the file is missing, empty or not UTF-8.

    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"corpus {path}: no such file, expected a text file in UTF-8")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"corpus {path}: byte {error.start} is not UTF-8, expected a text file in UTF-8") from None
    documents = [document for document in re.split(r"\n\s*\n", text) if document.strip()]
    if not documents:
        raise InputError(f"corpus {path}: is empty, expected text to learn tokens from")
    return documents


def count_unreachable(tokenizer: PreTrainedTokenizerFast, merges: Sequence[Merge]) -> int:
    """How many new tokens are whole text, yet are not what that text encodes to.

    Tokens that are pieces of a character have no text of their own; rule R, asserted before, covers those.
    """
    encoder = plain_text_encoder(tokenizer)
    texts = {merge: merge.token_bytes.decode(errors="ignore") for merge in merges}
    whole = {merge: text for merge, text in texts.items() if text.encode() == merge.token_bytes}
    return sum(encoder.encode(text, add_special_tokens=False).ids != [merge.token] for merge, text in whole.items())


def longest_tokens(merges: Sequence[Merge], shown: int = 12) -> str:
    """The longest new tokens, quoted."""
    longest = sorted(merges, key=lambda merge: -len(merge.token_bytes))[:shown]
    return ", ".join(repr(merge.token_bytes.decode(errors="replace")) for merge in longest)


def describe(certificate: Certificate) -> str:
    """The certificate for the terminal."""
    c = certificate
    gain = c.bytes_per_token_after / c.bytes_per_token_before - 1 if c.bytes_per_token_before else 0.0
    same = "unchanged" if c.weights_before == c.weights_after else "CHANGED"
    on = (
        f"{c.held_out_documents} held-out documents"
        if c.held_out_documents
        else "the corpus itself (too short to hold out)"
    )
    return (
        f"{c.base_tokens} tokens + {c.new_tokens} learned + {c.control_tokens} control tokens\n"
        f"bytes per token on {on}: {c.bytes_per_token_before:.3f} -> {c.bytes_per_token_after:.3f} ({gain:+.1%}); "
        f"longer documents: {c.longer_documents}\n"
        f"old ids moved: {c.moved_ids}; new tokens that no text reaches: {c.unreachable_tokens}\n"
        f"old weights {same}: rows sha256 {c.weights_after.base_rows[:16]}…, others {c.weights_after.other_weights[:16]}…"
    )


def _holds_no_digit(token: bytes) -> bool:
    return not any(character.isdigit() for character in token.decode(errors="ignore"))


def _grow(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    merges: Sequence[Merge],
    control_tokens: int,
    start: Start,
    seed: int,
) -> None:
    first_new_id = next_token_id(tokenizer)
    by_token = {merge.token: merge for merge in merges}
    sub_tokens = [_base_ids(merge.token, by_token, first_new_id) for merge in merges]
    sub_tokens += [[] for _ in range(control_tokens)]
    tables = find_tables(model)
    input_rows = start_rows(tables.embedding.weight[:first_new_id], sub_tokens, start, seed)
    untied = tables.head is not None and not tables.tied
    output_rows = start_rows(tables.head.weight[:first_new_id], sub_tokens, start, seed) if untied else None  # type: ignore[union-attr]
    grow_rows(model, first_new_id, input_rows, output_rows)


def _base_ids(token: int, merges: dict[int, Merge], first_new_id: int) -> list[int]:
    """The base's ids that a new token stands for: its merge, unfolded."""
    if token < first_new_id:
        return [token]
    merge = merges[token]
    return [*_base_ids(merge.left, merges, first_new_id), *_base_ids(merge.right, merges, first_new_id)]


if __name__ == "__main__":
    run_entry(main, ExtendSettings)
