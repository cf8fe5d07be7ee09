"""What each id of a tokenizer is to text: whether any text brings it up, and whether it is whole text itself.

Everything is encoded through normaliser, pre-tokenizer and merges, read as plain text and with `ignore_merges` off:
else any token would be found by its own text.

The bytes of a token alone decide whether merges reach it: what lies within a token has been merged as if it stood
alone. Only normaliser and pre-tokenizer look at what stands beside it, so a token that they cut is tried in contexts.
"""

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Literal

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.extension.reachability import completions
from tokenizer_ext.huggingface.byte_level_backend import check_byte_level
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
from tokenizer_ext.huggingface.plain_text import merging_encoder
from tokenizer_ext.pages.progress import tracked

Kind = Literal["ordinary", "unreachable", "partial", "partial without text", "never text", "control", "added word"]

KINDS: Mapping[Kind, str] = {
    "ordinary": "whole text that encodes to this id",
    "unreachable": "whole text, but no text found encodes to this id",
    "partial": "piece of a character; some text encodes to it",
    "partial without text": "piece of a character that no text found encodes to",
    "never text": "bytes that stand in no UTF-8 text",
    "control": "special token",
    "added word": "added token that is not special: cut out of the text before anything else",
}
"""Each kind with what it means."""

UNUSED_BYTES = (0xC0, 0xC1, *range(0xF5, 0x100))
"""The bytes that stand in no UTF-8 text (RFC 3629, section 1)."""

_BESIDE = ("", " ", "a", "A", "1", ".", "\n", "'")
_COMPLETIONS_TRIED = 512


@dataclass(frozen=True)
class TokenKind:
    """What one id is."""

    kind: Kind
    reason: str = ""
    """Why no text was found for it."""


def sort_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, TokenKind]:
    """The kind of every id in use.

    Raises:
        InputError: the tokenizer is no byte-level BPE.

    """
    check_byte_level(tokenizer)
    kinds = {
        id_: TokenKind("control" if added.special else "added word")
        for id_, added in tokenizer.added_tokens_decoder.items()
    }
    tokens = {id_: token for id_, token in token_bytes(tokenizer).items() if id_ not in kinds}
    encoder = merging_encoder(tokenizer)
    whole = {id_: text for id_, token in tokens.items() if (text := _text_of(token)) is not None}
    reached = _reached_by_own_text(whole, encoder)
    for id_, token in tracked(tokens.items(), "looking which tokens text reaches", "tokens"):
        if id_ in reached:
            kinds[id_] = TokenKind("ordinary")
        elif id_ in whole:
            kinds[id_] = _cut_token(id_, whole[id_], encoder)
        else:
            kinds[id_] = _piece_of_a_character(id_, token, encoder)
    return dict(sorted(kinds.items()))


def reachable_ids(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """The ids, other than added tokens, that a text was found for."""
    return {id_ for id_, found in sort_tokens(tokenizer).items() if found.kind in ("ordinary", "partial")}


def is_within_text(token: bytes) -> bool:
    r"""Whether the bytes can stand in UTF-8 text, from within one character to within another.

    >>> is_within_text(b"\x80a"), is_within_text(b"a\x80"), is_within_text(b"\xff"), is_within_text(b"\xe6\x9d")
    (True, False, False, True)
    """
    start = next((place for place, byte in enumerate(token) if not 0x80 <= byte < 0xC0), len(token))
    try:
        codecs.getincrementaldecoder("utf-8")().decode(token[start:], final=False)
    except UnicodeDecodeError:
        return False
    return start <= 3  # the longest character is one byte that begins it and three that go on


def _text_of(token: bytes) -> str | None:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None


def _reached_by_own_text(texts: Mapping[int, str], encoder: Tokenizer) -> set[int]:
    encodings = encoder.encode_batch_fast(list(texts.values()))
    return {id_ for id_, encoding in zip(texts, encodings, strict=True) if encoding.ids == [id_]}


def _cut_token(id_: int, text: str, encoder: Tokenizer) -> TokenKind:
    """The kind of a token that its own text does not come to."""
    alone = encoder.model.tokenize(visible(text.encode()))
    if [token.id for token in alone] != [id_]:
        return TokenKind("unreachable", f"merges make {_quoted(token.value for token in alone)} of it")
    if _is_brought_up(id_, (before + text + after for before, after in product(_BESIDE, _BESIDE)), encoder):
        return TokenKind("ordinary")
    normal = encoder.normalizer.normalize_str(text) if encoder.normalizer else text
    if normal != text:
        return TokenKind("unreachable", f"the normaliser makes {normal!r} of it")
    pieces = [piece for piece, _ in encoder.pre_tokenizer.pre_tokenize_str(text)]
    return TokenKind("unreachable", f"the pre-tokenizer cuts it into {_quoted(pieces)}")


def _piece_of_a_character(id_: int, token: bytes, encoder: Tokenizer) -> TokenKind:
    if not is_within_text(token):
        return TokenKind("never text", f"0x{token.hex()} is within no UTF-8 text")
    alone = encoder.model.tokenize(visible(token))
    if [token.id for token in alone] != [id_]:
        return TokenKind("partial without text", f"merges make {_quoted(token.value for token in alone)} of it")
    if _is_brought_up(id_, islice(completions(token), _COMPLETIONS_TRIED), encoder):
        return TokenKind("partial")
    return TokenKind("partial without text", f"none of {_COMPLETIONS_TRIED} completed characters encodes to it")


def _is_brought_up(id_: int, texts: Iterable[str], encoder: Tokenizer) -> bool:
    return any(id_ in encoding.ids for some in _batches(texts) for encoding in encoder.encode_batch_fast(some))


def _batches(texts: Iterable[str], size: int = 32) -> Iterator[list[str]]:
    waiting = iter(texts)
    while some := list(islice(waiting, size)):
        yield some


def _quoted(parts: Iterable[str]) -> str:
    found: Sequence[str] = list(parts)
    return ", ".join(map(repr, found)) or "nothing"
