"""SentencePiece's BPE beside byte-level BPE on one text.

Source: Kudo and Richardson 2018, "SentencePiece: A simple and language independent subword tokenizer"; the settings are
those that Llama 2's tokenizer.model holds in its trainer_spec.
"""

import importlib.util
import io
from typing import Any

from configs import InputError
from tokenizer_ext.bpe.bpe import BytePairEncoding, train_bpe
from tokenizer_ext.bpe.vocabulary_listing import shown

HOW_TO_GET_SENTENCEPIECE = "pip install 'graft-lm[sentencepiece]'"
LLAMA_SETTINGS: dict[str, Any] = {
    "model_type": "bpe",
    "byte_fallback": True,  # 256 tokens <0x00> ... <0xFF> for what the vocabulary lacks
    "character_coverage": 0.99995,  # the rarest characters get no token
    "split_digits": True,
    "split_by_unicode_script": True,
    "split_by_whitespace": True,
    "split_by_number": True,
    "allow_whitespace_only_pieces": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": True,  # a space before the text, so that its first word is like any other
    "max_sentence_length": 4192,
    "max_sentencepiece_length": 16,
}


def require_sentencepiece() -> None:
    """Checks that the library is there.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("sentencepiece") is None:
        raise InputError(f"the comparison needs sentencepiece: {HOW_TO_GET_SENTENCEPIECE}")


def train_sentencepiece(text: str, vocabulary_size: int) -> Any:
    """A `SentencePieceProcessor` that learned from the lines of a text.

    Raises:
        InputError: the text does not support so many tokens.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text.splitlines()),
            model_writer=model,
            vocab_size=vocabulary_size,
            num_threads=1,
            minloglevel=2,
            **LLAMA_SETTINGS,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].split("] ")[-1]
        raise InputError(
            f"vocabulary_size: SentencePiece does not learn {vocabulary_size} tokens from this text ({reason}); "
            "lower it or give more text"
        ) from None
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def compare_on(corpus: str, vocabulary_size: int, text: str) -> str:
    """A table of both on the held-out tenth of a corpus, and the tokens of one text, in lines to print."""
    cut = len(corpus) * 9 // 10
    learned, held_out = corpus[:cut], corpus[cut:]
    bpe, pieces = train_bpe([learned], vocabulary_size), train_sentencepiece(learned, vocabulary_size)
    sides = {"byte-level BPE": _byte_level(bpe, held_out, text), "SentencePiece": _pieces(pieces, held_out, text)}
    rows = [f"{'':<34}" + "".join([f"{name:>16}" for name in sides])]
    for row, label in enumerate(ROWS):
        rows.append(f"{label:<34}" + "".join([f"{figures[row]:>16}" for figures, _ in sides.values()]))
    rows += [f"{name:<16}{' '.join(tokens)}" for name, (_, tokens) in sides.items()]
    return "\n".join(rows)


ROWS = (
    "tokens",
    "of them single bytes",
    "of them other single characters",
    "bytes a token, held-out text",
    "held-out text comes back whole",
    "this text comes back whole",
)

Side = tuple[list[str], list[str]]


def _byte_level(bpe: BytePairEncoding, held_out: str, text: str) -> Side:
    ids = bpe.encode_ordinary(held_out)
    characters = sum(len(token) > 1 and len(token.decode(errors="surrogateescape")) == 1 for token in bpe.ranks)
    back = [bpe.decode(bpe.encode_ordinary(some)) == some for some in (held_out, text)]
    figures = [str(len(bpe.ranks)), "256", str(characters), f"{len(held_out.encode()) / len(ids):.3f}"]
    tokens = {id_: token for token, id_ in bpe.ranks.items()}
    return [*figures, *map(_said, back)], [f"[{shown(tokens[id_])}]" for id_ in bpe.encode_ordinary(text)]


def _pieces(processor: Any, held_out: str, text: str) -> Side:
    size = processor.vocab_size()
    in_bytes = sum(processor.is_byte(id_) for id_ in range(size))
    characters = sum(len(processor.id_to_piece(id_)) == 1 for id_ in range(size))
    ids = processor.encode(held_out)
    back = [processor.decode(processor.encode(some)) == some for some in (held_out, text)]
    figures = [str(size), str(in_bytes), str(characters), f"{len(held_out.encode()) / len(ids):.3f}"]
    return [*figures, *map(_said, back)], [f"[{piece}]" for piece in processor.encode(text, out_type=str)]


def _said(holds: bool) -> str:
    return "yes" if holds else "no"
