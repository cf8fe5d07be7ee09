"""Gives a model and its tokenizer new tokens, learned from a corpus, without moving anything that it has.

    python -m tokenizer_ext.extend --base DIR --corpus FILE --new_tokens 1000 --output_dir DIR

It learns merges on top of the tokenizer's own, grows the tables by start rows for them, checks what moved, and writes a
plain Hugging Face folder with `certificate.json`. Train the new rows next: `accelerate launch finetune/new_rows.py`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, MissingInput, run_entry
from tokenizer_ext.certificate import Certificate, hash_weights, write_certificate
from tokenizer_ext.continued_bpe import assert_reachable, count_pieces
from tokenizer_ext.embeddings import grow_rows
from tokenizer_ext.extension_checks import count_moved_ids, count_unreachable, token_lengths
from tokenizer_ext.extension_report import describe
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.hf_tokenizer import add_control_tokens, append_merges, next_token_id, token_bytes
from tokenizer_ext.merge_learning import Merge, base_ids, learn_merges
from tokenizer_ext.row_init import Start, start_tables
from tokenizer_ext.terminal import quiet_libraries

HELD_OUT_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class ExtendSettings:
    """An extension of a vocabulary."""

    base: str
    """Model to extend: a Hugging Face folder or Hub name with a byte-level BPE tokenizer (GPT-2, Llama 3, Qwen)."""
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

    def __post_init__(self) -> None:
        _check_counts(self.new_tokens, self.minimum_count)


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
        """Writes a plain Hugging Face folder, and `certificate.json` beside the weights.

        Raises:
            InputError: the folder holds something, or the model is none of transformers'.

        """
        folder = Path(folder)
        check_new_folder(folder)
        if not isinstance(self.model, PreTrainedModel):
            raise InputError(f"{type(self.model).__name__}: is no Hugging Face model: save it as its own package does")
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_certificate(self.certificate, folder)
        return folder


def main(settings: ExtendSettings) -> None:
    """Reads the corpus, extends, saves, shows the certificate."""
    quiet_libraries()
    check_new_folder(settings.output_dir)
    extended = extend_vocabulary(
        settings.base,
        corpus=read_documents(settings.corpus),
        new_tokens=settings.new_tokens,
        minimum_count=settings.minimum_count,
        digits=settings.digits,
        start=settings.start,
        seed=settings.seed,
    )
    folder = extended.save(settings.output_dir)
    print(describe(extended.certificate))
    print(f"Longest new tokens: {longest_tokens(extended.merges)}")
    print(f"Saved: {folder}")


def extend_vocabulary(
    base: str | Path | tuple[nn.Module, PreTrainedTokenizerFast],
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

    Every tenth document is held out of the learning and measures bytes per token.

    Args:
        base: Folder or Hub name; or a model, of transformers or of `scratch_models`, and its tokenizer: then the model
            is changed in place.
        corpus: Documents.
        new_tokens: Tokens to learn.
        control_tokens: Special tokens to add after them.
        minimum_count: How often the corpus must hold a pair for it to become a token.
        digits: Whether tokens with digits may be learned.
        start: Start of the new rows.
        seed: Seed of the start rows that are drawn.

    Raises:
        InputError: there is no such base, its tokenizer is no byte-level BPE, or the corpus does not support so many
            tokens; the model is unchanged then.

    """
    _check_counts(new_tokens, minimum_count)
    to_learn, held_out = split_documents(corpus)
    measured = held_out or to_learn
    # All that can be refused for the text's sake comes before any weight is loaded.
    tokenizer = base[1] if isinstance(base, tuple) else load_tokenizer(str(base))
    merges = (
        learn_tokens(tokenizer, to_learn, new_tokens, minimum_count=minimum_count, digits=digits) if new_tokens else []
    )
    extended_tokenizer = add_control_tokens(append_merges(tokenizer, merges), control_tokens)
    assert_reachable(extended_tokenizer, merges)
    first_new_id = next_token_id(tokenizer)
    model = base[0] if isinstance(base, tuple) else load_model(str(base), dtype="auto")
    weights_before = hash_weights(model, first_new_id)
    sub_tokens = [*base_ids(merges), *([] for _ in control_tokens)]
    grow_rows(model, first_new_id, *start_tables(model, first_new_id, sub_tokens, start, seed))
    text_bytes = sum(len(text.encode()) for text in measured)
    before, after = token_lengths(tokenizer, measured), token_lengths(extended_tokenizer, measured)
    certificate = Certificate(
        base_tokens=first_new_id,
        new_tokens=len(merges),
        control_tokens=len(control_tokens),
        unreachable_tokens=count_unreachable(extended_tokenizer, merges),
        moved_ids=count_moved_ids(tokenizer.get_vocab(), extended_tokenizer.get_vocab()),
        bytes_per_token_before=text_bytes / max(sum(before), 1),
        bytes_per_token_after=text_bytes / max(sum(after), 1),
        longer_documents=sum(now > then for then, now in zip(before, after, strict=True)),
        held_out_documents=len(held_out),
        weights_before=weights_before,
        weights_after=hash_weights(model, first_new_id),
    )
    return Extended(extended_tokenizer, model, certificate, first_new_id, tuple(merges))


def split_documents(corpus: Iterable[str]) -> tuple[list[str], list[str]]:
    """The documents to learn from, and every tenth, which is held out; empty ones are in neither.

    >>> split_documents("a b c d e f g h i j k".split())
    (['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'k'], ['j'])
    """
    if isinstance(corpus, str):
        raise InputError(f"corpus: found one string ({corpus[:40]!r}), expected a list of documents: pass [text]")
    documents = [text for text in corpus if text.strip()]
    to_learn = [text for number, text in enumerate(documents, 1) if number % HELD_OUT_EVERY]
    return to_learn, documents[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]


def learn_tokens(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], new_tokens: int, *, minimum_count: int, digits: bool
) -> list[Merge]:
    """Merges for new tokens, on top of the tokenizer's own.

    Raises:
        InputError: the tokenizer is no byte-level BPE, or the texts support fewer tokens.

    """
    merges = learn_merges(
        count_pieces(texts, tokenizer),
        token_bytes(tokenizer),
        new_tokens=new_tokens,
        first_id=next_token_id(tokenizer),
        minimum_count=minimum_count,
        allow=None if digits else _holds_no_digit,
    )
    if len(merges) < new_tokens:
        raise InputError(
            f"new_tokens: asked for {new_tokens}, the corpus supports {len(merges)}, whose pairs occur {minimum_count} "
            "times or more in it: ask for fewer, or give more text"
        )
    return merges


def read_documents(path: str | Path) -> list[str]:
    """The documents of a text file: paragraphs, as blank lines separate them.

    Raises:
        InputError: the file is missing, a folder, empty or not UTF-8.

    """
    path = Path(path)
    if not path.exists():
        raise MissingInput(f"corpus {path}: no such file, expected a text file in UTF-8")
    if path.is_dir():
        raise InputError(f"corpus {path}: is a folder, expected a text file in UTF-8")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"corpus {path}: byte {error.start} is not UTF-8, expected a text file in UTF-8: convert the file first"
        ) from None
    documents = [document for document in re.split(r"\n\s*\n", text) if document.strip()]
    if not documents:
        raise InputError(f"corpus {path}: is empty, expected text to learn tokens from")
    return documents


def check_new_folder(folder: str | Path) -> None:
    """Refuses a folder that holds something."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"output_dir {path}: is not an empty folder: choose a new one")


def longest_tokens(merges: Sequence[Merge], shown: int = 12) -> str:
    """The longest new tokens, quoted."""
    longest = sorted(merges, key=lambda merge: -len(merge.token_bytes))[:shown]
    return ", ".join(repr(merge.token_bytes.decode(errors="replace")) for merge in longest)


def _check_counts(new_tokens: int, minimum_count: int) -> None:
    if new_tokens < 0:
        raise InputError(f"new_tokens: found {new_tokens}, expected 0 or more")
    if minimum_count < 1:
        raise InputError(f"minimum_count: found {minimum_count}, expected 1 or more")


def _holds_no_digit(token: bytes) -> bool:
    return not any(character.isdigit() for character in token.decode(errors="ignore"))


if __name__ == "__main__":
    run_entry(main, ExtendSettings)
