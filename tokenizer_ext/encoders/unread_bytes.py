"""Bytes that a byte-level vocabulary lacks: which texts hold one, and whether a corpus holds too many."""

import logging
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.huggingface.byte_level_backend import missing_bytes

MOST_UNREAD = 0.01
"""The share of a corpus that may be bytes without a token; one with more is in a script that the base cannot read."""

log = logging.getLogger(__name__)


def check_readable(documents: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuses a corpus that the vocabulary has no bytes for, and says how many bytes it lacks of any other.

    The base drops such a byte or makes its unknown token of it, and an extension does what the base does.

    Raises:
        InputError: more than 1 % of the corpus is such bytes.

    """
    missing = missing_bytes(tokenizer)
    if not missing:
        return
    all_bytes = unread = 0
    example = ""
    for text in documents:
        encoded = text.encode()
        lost = len(encoded) - len(encoded.translate(None, missing))
        example = example or next((one for one in text if lost and not set(one.encode()).isdisjoint(missing)), "")
        all_bytes, unread = all_bytes + len(encoded), unread + lost
    if unread > MOST_UNREAD * all_bytes:
        raise InputError(
            f"corpus: {unread / all_bytes:.1%} of its bytes have no token in the base, {example!r} the first, expected "
            "text that the base can read: take a base that has all 256 bytes"
        )
    if unread:
        log.info("%s bytes of the corpus have no token; they stay what the base makes of them", f"{unread:,}")


def texts_without_a_byte(tokenizer: PreTrainedTokenizerFast, beside: Sequence[str]) -> list[str]:
    """Texts that hold a byte which the vocabulary lacks: alone, and within each of the texts `beside`.

    Bytes that stand in no UTF-8 text bring none.
    """
    characters = [text for byte in missing_bytes(tokenizer) if (text := character_with(byte))]
    return [one for text in characters for one in (text, *(f"{other}{text}{other}" for other in beside))]


def character_with(byte: int) -> str:
    r"""A character whose UTF-8 holds the byte, or nothing where none does.

    >>> character_with(0xC3), character_with(0x80).encode(), character_with(0xFF)
    ('À', b'\xc3\x80', '')
    """
    if byte < 0x80:
        return chr(byte)
    leads_of = {1: range(0x80, 0xC0), 2: range(0xC2, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF5)}
    for length, leads in leads_of.items():
        if byte in leads:
            second = {0xE0: 0xA0, 0xF0: 0x90}.get(byte, 0x80)  # the smallest that may follow
            return (bytes([0xC3, byte] if length == 1 else [byte, second, 0x80, 0x80][:length])).decode()
    return ""
