"""Learns byte-level BPE and SentencePiece's BPE from the same text, and shows where they differ.

    python -m tokenizer_ext.compare_sentencepiece --corpus FILE

SentencePiece joins characters, not bytes, and falls back to bytes for characters that are too rare for its vocabulary;
it writes a space as `▁` and knows no pattern that cuts text beforehand. It is trained as Llama 2's tokenizer was. The
last tenth of the text is held out.
"""

from dataclasses import dataclass

from configs import InputError, run_entry


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """The text that both learn from, how large they become, and a text that shows the difference."""

    corpus: str
    """Text file (UTF-8)."""
    vocabulary_size: int = 1000
    """Tokens of each vocabulary, those of the 256 bytes included."""
    text: str = "The  king's 1603 café, 안녕!"
    """A text to cut into tokens by both."""

    def __post_init__(self) -> None:
        if self.vocabulary_size < 300:
            raise InputError(f"vocabulary_size is {self.vocabulary_size}, expected at least 300: both hold 256 bytes")


def main(settings: ComparisonSettings) -> None:
    """Reads the text, trains both, prints what they come to."""
    from tokenizer_ext.extension.corpus_files import read_documents
    from tokenizer_ext.inspection.sentencepiece_bpe import compare_on, require_sentencepiece

    require_sentencepiece()
    text = "\n\n".join(read_documents(settings.corpus))
    print(compare_on(text, settings.vocabulary_size, settings.text))


if __name__ == "__main__":
    run_entry(main, ComparisonSettings)
