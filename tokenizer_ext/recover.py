"""Recovers a tokenizer from the ranks that tiktoken publishes, GPT-4's by default, and proves that its ids are equal.

    python -m tokenizer_ext.recover --ranks cl100k_base

Ranks say the id of each token, but not which two tokens it was joined from. It finds the merges and the order of the
bytes, encodes a text by merges alone, and compares the ids with tiktoken's. With `--output_dir` it leaves `bpe.json`,
which `BytePairEncoding.load` opens, `merges.txt`, and `vocabulary.txt` to read.
"""

from dataclasses import dataclass
from typing import Literal

from configs import InputError, run_entry
from configs.manifest import sealed_folder
from configs.whole_folder import check_new_folder


@dataclass(frozen=True, kw_only=True)
class RecoverSettings:
    """Which ranks, the text that is compared, and what is left."""

    ranks: str = "cl100k_base"
    """An encoding that tiktoken knows by name (GPT-4's; downloaded once), or a .tiktoken file."""
    split: Literal["gpt2", "gpt4"] = "gpt2"
    """The pattern that cuts text into pieces, where the ranks are a file; an encoding brings its own."""
    text: str = "hello world!!!? (안녕하세요!) lol123 😉"
    """A text to encode; this one is that of minbpe's exercise."""
    corpus: str | None = None
    """A text file (UTF-8) whose ids are compared too."""
    output_dir: str | None = None
    """New folder for the recovered tokenizer; by default nothing is written."""

    def __post_init__(self) -> None:
        if not self.text:
            raise InputError("text is empty, expected at least one character to encode")


def main(settings: RecoverSettings) -> None:
    """Reads the ranks, recovers the merges, compares, saves."""
    from tokenizer_ext.bpe.recovery import describe_recovery, read_encoding, recover_plain, write_tokenizer
    from tokenizer_ext.extension.corpus_files import read_documents

    if settings.output_dir is not None:
        check_new_folder(settings.output_dir)
    corpus = None if settings.corpus is None else "\n\n".join(read_documents(settings.corpus))
    encoding = read_encoding(settings.ranks, settings.split)
    plain = recover_plain(encoding)
    print(describe_recovery(plain, encoding, settings.text, corpus))
    if settings.output_dir is not None:
        with sealed_folder(settings.output_dir) as folder:
            write_tokenizer(plain, encoding, folder)
        print(f"Saved: {settings.output_dir}")


if __name__ == "__main__":
    run_entry(main, RecoverSettings)
