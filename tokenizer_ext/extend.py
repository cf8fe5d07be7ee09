"""Gives a model and its tokenizer new tokens, learned from a corpus, without moving anything that it has.

    python -m tokenizer_ext.extend --base DIR --corpus FILE --new_tokens 1000 --output_dir DIR
    python -m tokenizer_ext.extend --base DIR --corpus FILE --words FILE --dry_run --output_dir DIR

It learns merges on top of the tokenizer's own, grows the tables by start rows for them, checks what moved, and writes a
plain Hugging Face folder with `certificate.json` and `report.html`. With `--dry_run` it shows what each further token
would gain, and writes nothing. Train the new rows next: `accelerate launch finetune/new_rows.py`.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from tokenizer_ext.certificate import Certificate, hash_weights, write_certificate
from tokenizer_ext.corpus_files import WordForms, read_documents, read_words, sort_texts, word_forms
from tokenizer_ext.embeddings import find_tables, grow_rows
from tokenizer_ext.extension_checks import certify
from tokenizer_ext.extension_plan import Plan, Wanted, make_plan
from tokenizer_ext.extension_report import describe, describe_plan, write_report
from tokenizer_ext.growth_curve import GrowthCurve
from tokenizer_ext.hf_model import check_finite, load_model, load_tokenizer
from tokenizer_ext.hf_tokenizer import character_counts, token_bytes
from tokenizer_ext.merge_learning import Merge, base_ids
from tokenizer_ext.row_init import DEFAULT_START, Start, start_tables
from tokenizer_ext.terminal import quiet_libraries


@dataclass(frozen=True, kw_only=True)
class ExtendSettings:
    """An extension of a vocabulary."""

    base: str
    """Model to extend: a Hugging Face folder or Hub name with a byte-level BPE tokenizer (GPT-2, Llama 3, Qwen)."""
    corpus: str | None = None
    """Text file (UTF-8) of the domain; documents are separated by blank lines."""
    output_dir: str
    """New folder for the extended model, its tokenizer, the certificate and the report."""
    new_tokens: int = 1000
    """Tokens to learn from the corpus; none where there is no corpus."""
    words: str | None = None
    """Text file (UTF-8) of words, one a line, that become one token each."""
    word_forms: WordForms = "both"
    """What stands for a word: it as written, the word after a space, as within a text, or both."""
    protect: str | None = None
    """Text file (UTF-8) of documents that keep their ids: tokens that would change one are not learned."""
    held_out: str | None = None
    """Text file (UTF-8) to measure bytes per token on; by default every tenth distinct document of the corpus."""
    minimum_count: int = 2
    """How often the corpus must hold a pair for it to become a token."""
    maximum_bytes: int | None = None
    """Longest token to learn, in bytes; by default there is no limit."""
    digits: bool = False
    """Whether tokens with digits may be learned; arithmetic is easier without them."""
    control_tokens: list[str] | None = None
    """Special tokens to add after them, such as ["<|user|>"]."""
    rows_multiple: int = 1
    """The tables grow to a number of rows that is a multiple of it; 64 or 128 is quick on a GPU."""
    start: Start = DEFAULT_START
    """Start of the new rows."""
    seed: int = 0
    """Seed of the start rows that are drawn."""
    dry_run: bool = False
    """Shows what would be added and what it is worth; loads no weights and writes nothing."""

    def __post_init__(self) -> None:
        _wanted(self, ())
        if self.corpus is None and self.words is None and not self.control_tokens:
            raise InputError("corpus: missing, expected a text file, or --words FILE or --control_tokens without one")


@dataclass(frozen=True)
class Extended:
    """A model with more tokens than its base, and what is proved of it."""

    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    certificate: Certificate
    plan: Plan
    """What was added, and from what."""

    @property
    def first_new_id(self) -> int:
        """Ids from here on are new: first the learned tokens, then the control tokens."""
        return self.certificate.base_tokens

    @property
    def merges(self) -> tuple[Merge, ...]:
        """The tokens of words and the learned tokens, in the order of their ids."""
        return self.plan.merges

    @property
    def curve(self) -> GrowthCurve | None:
        """What each further token gains on held-out text, and how often the corpus holds it; None without text."""
        return self.plan.curve

    def save(self, folder: str | Path) -> Path:
        """Writes a plain Hugging Face folder, with `certificate.json` and `report.html` beside the weights.

        Raises:
            InputError: the folder holds something, or the model is none of transformers'.

        """
        folder = Path(folder)
        check_new_folder(folder)
        if not isinstance(self.model, PreTrainedModel):
            raise InputError(f"{type(self.model).__name__}: is no Hugging Face model: save it as its own package does")
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.save_proof(folder)
        return folder

    def save_proof(self, folder: Path, certificate: Certificate | None = None) -> None:
        """Writes `certificate.json` and `report.html` into a folder; a later certificate may take the place of ours."""
        certificate = certificate or self.certificate
        write_certificate(certificate, folder)
        write_report(certificate, self.plan, folder)


def main(settings: ExtendSettings) -> None:
    """Reads the texts, extends, saves, shows the certificate."""
    quiet_libraries()
    check_new_folder(settings.output_dir)
    tokenizer = load_tokenizer(settings.base)
    words, left_out = choose_words(settings, tokenizer)
    if left_out:
        print(f"Left out, because they are tokens already: {', '.join(map(repr, left_out))}")
    corpus, held_out, protect = (
        read_documents(path, field) if path else None
        for field, path in (("corpus", settings.corpus), ("held_out", settings.held_out), ("protect", settings.protect))
    )
    with progress_shown():
        plan = make_plan(tokenizer, sort_texts(corpus or (), held_out, protect or ()), _wanted(settings, words))
        if settings.dry_run:
            print(describe_plan(plan))
            return
        extended = grow(settings.base, plan, settings.rows_multiple, settings.start, settings.seed)
    folder = extended.save(settings.output_dir)
    print(describe(extended.certificate))
    print(f"Longest new tokens: {longest_tokens(extended.merges)}")
    print(f"Saved: {folder}; report: {folder / 'report.html'}")


def extend_vocabulary(  # noqa: PLR0913 - each is a choice of its own, and all have defaults
    base: str | Path | tuple[nn.Module, PreTrainedTokenizerFast],
    *,
    corpus: Iterable[str] = (),
    new_tokens: int = 1000,
    words: Sequence[str] = (),
    protect: Iterable[str] = (),
    held_out: Iterable[str] | None = None,
    control_tokens: Sequence[str] = (),
    minimum_count: int = 2,
    maximum_bytes: int | None = None,
    digits: bool = False,
    rows_multiple: int = 1,
    start: Start = DEFAULT_START,
    seed: int = 0,
) -> Extended:
    """The base with tokens for words, then tokens learned from the corpus, then control tokens, and rows for them.

    Args:
        base: Folder or Hub name; or a model, of transformers or of `scratch_models`, and its tokenizer: then the model
            is changed in place.
        corpus: Documents of the domain.
        new_tokens: Tokens to learn from the corpus; none where none is given.
        words: Texts that become one token each; " word" is the form that a word has within a text.
        protect: Documents that keep their ids: tokens that would change one are not learned.
        held_out: Documents to measure bytes per token on; by default every tenth distinct document of the corpus.
        control_tokens: Special tokens to add after them.
        minimum_count: How often the corpus must hold a pair for it to become a token.
        maximum_bytes: Longest token to learn.
        digits: Whether tokens with digits may be learned.
        rows_multiple: The tables grow to a number of rows that is a multiple of it.
        start: Start of the new rows.
        seed: Seed of the start rows that are drawn.

    Raises:
        InputError: there is no such base or it holds NaN, its tokenizer is no byte-level BPE, a word cannot be a token
            or the corpus does not support so many tokens; the model is unchanged then.

    """
    wanted = Wanted(
        new_tokens=new_tokens if corpus != () else 0,
        words=words,
        control_tokens=control_tokens,
        minimum_count=minimum_count,
        maximum_bytes=maximum_bytes,
        digits=digits,
    )
    _check_multiple(rows_multiple)
    texts = sort_texts(corpus, held_out, protect)
    if isinstance(base, tuple):
        check_finite(base[0], type(base[0]).__name__)
    # All that can be refused for the text's sake comes before any weight is loaded.
    tokenizer = base[1] if isinstance(base, tuple) else load_tokenizer(str(base))
    return grow(base, make_plan(tokenizer, texts, wanted), rows_multiple, start, seed)


def grow(
    base: str | Path | tuple[nn.Module, PreTrainedTokenizerFast],
    plan: Plan,
    rows_multiple: int,
    start: Start,
    seed: int,
) -> Extended:
    """The base's model with rows for the tokens of a plan."""
    model: Any = base[0] if isinstance(base, tuple) else load_model(str(base), dtype="auto")
    first = plan.first_new_id
    weights_before = hash_weights(model, first)
    rows_before = find_tables(model).embedding.num_embeddings
    sub_tokens = [*base_ids(plan.merges), *([] for _ in plan.control_tokens)]
    characters = character_counts(plan.base) if start == "asymmetric" else None
    rows = start_tables(model, first, sub_tokens, start, seed, character_counts=characters)
    grow_rows(model, first, *rows, multiple=rows_multiple)
    return Extended(plan.tokenizer, model, certify(plan, model, weights_before, rows_before), plan)


def choose_words(settings: ExtendSettings, tokenizer: PreTrainedTokenizerFast) -> tuple[list[str], list[str]]:
    """The texts that become one token each, and those that are tokens already."""
    if settings.words is None:
        return [], []
    return word_forms(read_words(settings.words), settings.word_forms, token_bytes(tokenizer).values())


@contextmanager
def progress_shown() -> Iterator[None]:
    """Prints what the extension does, a line a step."""
    steps, shown = logging.getLogger("tokenizer_ext"), _Printed()
    steps.setLevel(logging.INFO)
    steps.addHandler(shown)
    try:
        yield
    finally:
        steps.removeHandler(shown)


class _Printed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


def check_new_folder(folder: str | Path) -> None:
    """Refuses a folder that holds something."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"output_dir {path}: is not an empty folder: choose a new one")


def longest_tokens(merges: Sequence[Merge], shown: int = 12) -> str:
    """The longest new tokens, quoted."""
    longest = sorted(merges, key=lambda merge: -len(merge.token_bytes))[:shown]
    return ", ".join(repr(merge.token_bytes.decode(errors="replace")) for merge in longest)


def _wanted(settings: ExtendSettings, words: Sequence[str]) -> Wanted:
    _check_multiple(settings.rows_multiple)
    return Wanted(
        new_tokens=settings.new_tokens if settings.corpus or settings.new_tokens < 0 else 0,
        words=words,
        control_tokens=settings.control_tokens or (),
        minimum_count=settings.minimum_count,
        maximum_bytes=settings.maximum_bytes,
        digits=settings.digits,
    )


def _check_multiple(rows_multiple: int) -> None:
    if rows_multiple < 1:
        raise InputError(f"rows_multiple: found {rows_multiple}, expected 1 or more")


if __name__ == "__main__":
    run_entry(main, ExtendSettings)
