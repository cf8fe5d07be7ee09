"""Tokens in writing: one visible character for each byte, as in GPT-2's vocabulary files.

A byte that Latin-1 prints is its Latin-1 character; the n-th other byte is the character 256 + n, so that the space is
"Ġ". From `bytes_to_unicode` in https://github.com/openai/gpt-2/blob/master/src/encoder.py
"""

_PRINTING_BYTES = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_OTHER_BYTES = tuple(byte for byte in range(256) if byte not in _PRINTING_BYTES)

GPT2_BYTE_ORDER = (*_PRINTING_BYTES, *_OTHER_BYTES)
"""All bytes, in the order of their ids 0-255 in GPT-2's vocabulary."""

_CHARACTER_OF_BYTE = {byte: chr(byte) for byte in _PRINTING_BYTES} | {
    byte: chr(256 + n) for n, byte in enumerate(_OTHER_BYTES)
}
_BYTE_OF_CHARACTER = {character: byte for byte, character in _CHARACTER_OF_BYTE.items()}


def visible(token: bytes) -> str:
    """The token as vocabulary files write it, one visible character for each byte.

    >>> visible(b" the")
    'Ġthe'
    """
    return "".join([_CHARACTER_OF_BYTE[byte] for byte in token])


def from_visible(token: str) -> bytes:
    """The bytes that `visible` wrote.

    Raises:
        KeyError: a character stands for no byte.

    >>> from_visible("Ġthe")
    b' the'
    """
    return bytes([_BYTE_OF_CHARACTER[character] for character in token])
