"""A character as Unicode numbers it, and as UTF-8, UTF-16 and UTF-32 write that number."""

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class CodePoint:
    """One code point in every writing."""

    label: str
    name: str
    utf_8: str
    utf_16: str
    utf_32: str

    def __str__(self) -> str:
        """All of it on one line."""
        return f"{self.label} {self.name} · UTF-8 {self.utf_8} · UTF-16 {self.utf_16} · UTF-32 {self.utf_32}"


def code_point(character: str) -> CodePoint:
    """The code point of one character; a control character, which has no name, by its category.

    >>> print(code_point("é"))
    U+00E9 LATIN SMALL LETTER E WITH ACUTE · UTF-8 C3 A9 · UTF-16 00E9 · UTF-32 000000E9
    >>> print(code_point("🙂").utf_16)
    D83D DE42
    """
    name = unicodedata.name(character, "") or _CATEGORIES.get(unicodedata.category(character), "without a name")
    return CodePoint(
        label=f"U+{ord(character):04X}",
        name=name,
        utf_8=hex_bytes(character.encode()),
        utf_16=_units(character.encode("utf-16-be"), 2),
        utf_32=_units(character.encode("utf-32-be"), 4),
    )


def hex_bytes(content: bytes) -> str:
    """Bytes as two digits each.

    >>> hex_bytes(b" a")
    '20 61'
    """
    return content.hex(" ").upper()


_CATEGORIES = {"Cc": "control character", "Co": "private use", "Cn": "not assigned"}


def _units(content: bytes, width: int) -> str:
    return content.hex(" ", -width).upper()
