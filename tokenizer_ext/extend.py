"""Gives a model and its tokenizer new tokens, learned from a corpus, without moving anything that it has.

    python -m tokenizer_ext.extend --base DIR --corpus FILE --new_tokens 1000 --output_dir DIR
    python -m tokenizer_ext.extend --base DIR --corpus FILE --words FILE --dry_run --output_dir DIR

It learns merges on top of the tokenizer's own, grows the tables by start rows for them, checks what moved, and writes a
plain Hugging Face folder with `certificate.json` and `report.html`. With `--dry_run` it shows what each further token
would gain, and writes nothing. Train the new rows next: `python -m finetune.new_rows`.
"""

import gc
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from configs import InputError, run_entry
from configs.whole_folder import check_new_folder
from tokenizer_ext.bpe.merge_learning import Merge
from tokenizer_ext.embeddings.start_names import DEFAULT_START, Start
from tokenizer_ext.extension.corpus_files import (
    WordForms,
    read_documents,
    read_left_out,
    read_words,
    sort_texts,
    word_forms,
)
from tokenizer_ext.extension.wanted import Wanted, check_multiple


@dataclass(frozen=True, kw_only=True)
class ExtendSettings:
    """An extension of a vocabulary."""

    base: str
    """Model to extend: a Hugging Face folder or Hub name with a BPE tokenizer (GPT-2, Llama 2 and 3, Qwen, Gemma)."""
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
    """Longest token to learn, in bytes; by default 16 characters in SentencePiece BPE, else there is no limit."""
    digits: bool = False
    """Whether tokens with digits may be learned; arithmetic is easier without them."""
    leave_out: str | None = None
    """Text file (UTF-8) of tokens that are not learned, one a line as tokenizer.json writes them ("Ġmodel")."""
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
        if self.seed < 0:
            raise InputError(f"seed: found {self.seed}, expected 0 or more")
        _wanted(self, (), frozenset())
        if self.corpus is None and self.words is None and not self.control_tokens:
            raise InputError("corpus: missing, expected a text file, or --words FILE or --control_tokens without one")


def main(settings: ExtendSettings) -> None:
    """Reads the texts, extends, saves, shows the certificate."""
    with _cycles_left_alone():
        _extend(settings)


def _extend(settings: ExtendSettings) -> None:
    from tokenizer_ext.extension.certificate import read_certificate
    from tokenizer_ext.extension.extension import grow
    from tokenizer_ext.extension.plan import make_plan
    from tokenizer_ext.extension.report import describe, describe_plan
    from tokenizer_ext.huggingface.byte_level_backend import writing_of
    from tokenizer_ext.huggingface.hf_model import load_tokenizer
    from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    check_new_folder(settings.output_dir)
    tokenizer = load_tokenizer(settings.base)
    left = read_left_out(settings.leave_out, writing_of(tokenizer)) if settings.leave_out else frozenset()
    words, left_out = choose_words(settings, lambda: token_bytes(tokenizer).values())
    if left_out:
        print(f"Left out, because they are tokens already: {', '.join(map(repr, left_out))}")
    corpus, held_out, protect = (
        read_documents(path, field) if path else None
        for field, path in (("corpus", settings.corpus), ("held_out", settings.held_out), ("protect", settings.protect))
    )
    with progress_shown():
        plan = make_plan(tokenizer, sort_texts(corpus or (), held_out, protect or ()), _wanted(settings, words, left))
        if settings.dry_run:
            print(describe_plan(plan))
            return
        extended = grow(settings.base, plan, settings.rows_multiple, settings.start, settings.seed)
    folder = extended.save(settings.output_dir)
    print(describe(read_certificate(folder) or extended.certificate))
    print(f"Longest new tokens: {longest_tokens(extended.merges)}")
    print(f"Saved: {folder}; report: {folder / 'report.html'}")


def choose_words(settings: ExtendSettings, known_tokens: Callable[[], Iterable[bytes]]) -> tuple[list[str], list[str]]:
    """The texts that become one token each, and those that are tokens already."""
    if settings.words is None:
        return [], []
    return word_forms(read_words(settings.words), settings.word_forms, known_tokens())


@contextmanager
def _cycles_left_alone() -> Iterator[None]:
    """Looks for no garbage in cycles meanwhile.

    A vocabulary is read into a million small objects, and Python would walk through all of them again and again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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


def longest_tokens(merges: Sequence[Merge], shown: int = 12) -> str:
    """The longest new tokens, quoted."""
    longest = sorted(merges, key=lambda merge: -len(merge.token_bytes))[:shown]
    return ", ".join(repr(merge.token_bytes.decode(errors="replace")) for merge in longest)


def _wanted(settings: ExtendSettings, words: Sequence[str], leave_out: Collection[bytes]) -> Wanted:
    check_multiple(settings.rows_multiple)
    return Wanted(
        new_tokens=settings.new_tokens if settings.corpus or settings.new_tokens < 0 else 0,
        words=words,
        control_tokens=settings.control_tokens or (),
        minimum_count=settings.minimum_count,
        maximum_bytes=settings.maximum_bytes,
        digits=settings.digits,
        leave_out=leave_out,
    )


if __name__ == "__main__":
    run_entry(main, ExtendSettings)
