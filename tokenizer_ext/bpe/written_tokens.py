"""How the two families of BPE write tokens in `tokenizer.json`: byte by byte as GPT-2, or as text with "▁" for a space.

The second is SentencePiece's writing (Kudo and Richardson 2018, section 3.2); a byte that stands for itself, because
the vocabulary lacks its character, is "<0xE6>" there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tokenizer_ext.bpe.byte_characters import from_visible, visible

MARK = "▁"
"""What SentencePiece writes for a space."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Writing:
    """A way to write tokens."""

    example: str
    """How it writes " model"."""
    write: Callable[[bytes], str]
    read: Callable[[str], bytes]
    """The bytes that `write` wrote; KeyError names a character that stands for none."""


def marked(token: bytes) -> str:
    """The token as SentencePiece writes it.

    >>> marked(b" the")
    '▁the'
    """
    return token.decode().replace(" ", MARK)


def from_marked(token: str) -> bytes:
    r"""The bytes of a token that SentencePiece wrote.

    >>> from_marked("▁the"), from_marked("<0xE6>")
    (b' the', b'\xe6')
    """
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace(MARK, " ").encode(errors="replace")


def byte_token(byte: int) -> str:
    """The token of a byte that stands for itself.

    >>> byte_token(10)
    '<0x0A>'
    """
    return f"<0x{byte:02X}>"


BYTES = Writing(visible(b" model"), visible, from_visible)
MARKED = Writing(marked(b" model"), marked, from_marked)
