"""Removes the tokens that a corpus never uses, and their rows, without touching anything else.

    python -m tokenizer_ext.trim --model DIR --corpus FILE --output_dir DIR

Only leaves go, tokens that no other token is made of, and what becomes a leaf without them; never bytes, never added
tokens. Ids are numbered anew, in their order; rows without a token are dropped. The folder opens in transformers and
holds `trim.json`: where each old id went, and a certificate of what stayed.
"""

from dataclasses import dataclass

from configs import run_entry
from configs.whole_folder import check_new_folder
from tokenizer_ext.extension.corpus_files import read_documents
from tokenizer_ext.trimming.minimum_uses import check_uses


@dataclass(frozen=True, kw_only=True)
class TrimSettings:
    """What is trimmed by which text."""

    model: str
    """Model to trim: a Hugging Face folder or Hub name with a byte-level BPE tokenizer (GPT-2, Llama 3, Qwen)."""
    corpus: str
    """Text file (UTF-8) whose tokens stay; documents are separated by blank lines."""
    output_dir: str
    """New folder for the trimmed model, its tokenizer and `trim.json`."""
    minimum_uses: int = 1
    """A token that the corpus uses less often goes; above 1, documents become longer."""
    keep_tokens: list[str] | None = None
    """Tokens that stay, used or not, as a list: '[" the", " class"]'."""

    def __post_init__(self) -> None:
        check_uses(self.minimum_uses)


def main(settings: TrimSettings) -> None:
    """Reads the corpus, trims, saves, shows the certificate."""
    from tokenizer_ext.huggingface.byte_level_backend import check_byte_level
    from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
    from tokenizer_ext.pages.terminal import quiet_libraries
    from tokenizer_ext.trimming.trim_certificate import describe_trim
    from tokenizer_ext.trimming.trimmed_model import trim_vocabulary
    from tokenizer_ext.trimming.trimmed_tokenizer import ids_of_texts

    quiet_libraries()
    check_new_folder(settings.output_dir)
    corpus = read_documents(settings.corpus)
    tokenizer = load_tokenizer(settings.model)
    ids_of_texts(tokenizer, settings.keep_tokens or ())  # what can be refused comes before any weight is loaded
    check_byte_level(tokenizer)
    result = trim_vocabulary(
        load_model(settings.model, dtype="auto"),
        tokenizer,
        corpus,
        minimum_uses=settings.minimum_uses,
        keep_tokens=settings.keep_tokens or (),
    )
    folder = result.save(settings.output_dir)
    print(describe_trim(result.certificate))
    print(f"Saved: {folder}")


if __name__ == "__main__":
    run_entry(main, TrimSettings)
