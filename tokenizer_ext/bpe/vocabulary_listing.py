"""A vocabulary to read: each token beside the two that it is joined from."""

from collections.abc import Mapping
from types import MappingProxyType

from tokenizer_ext.bpe.piece_encoding import merge_by_rank

_NO_TOKENS: Mapping[str, int] = MappingProxyType({})


def vocabulary_lines(ranks: Mapping[bytes, int], special_tokens: Mapping[str, int] = _NO_TOKENS) -> list[str]:
    r"""A line for each token, by id: `[left][right] -> [token] id`, or `[token] id` for what is joined from nothing.

    >>> vocabulary_lines({b"a": 0, b"\n": 1, b"a\n": 2, b"\xe6": 3}, {"<end>": 4})
    ['[a] 0', '[\\n] 1', '[a][\\n] -> [a\\n] 2', '[\\xe6] 3', '[<end>] 4']
    """
    lines = {rank: _line(token, rank, ranks) for token, rank in ranks.items()}
    lines |= {id_: f"[{shown(token.encode())}] {id_}" for token, id_ in special_tokens.items()}
    return [lines[id_] for id_ in sorted(lines)]


def _line(token: bytes, rank: int, ranks: Mapping[bytes, int]) -> str:
    parts = merge_by_rank(token, ranks, below=rank)
    # More than two: no chain of merges leads to the token, which is found as a whole piece only.
    joined_from = "".join([f"[{shown(part)}]" for part in parts]) + " -> " if len(parts) == 2 else ""
    return f"{joined_from}[{shown(token)}] {rank}"


def shown(token: bytes) -> str:
    r"""The token as text, with escapes for what does not print: controls, odd spaces, bytes of a part of a character.

    >>> [shown(token) for token in (b" the", b"a\tb", "é".encode(), "é".encode()[:1], "\u2028".encode(), b"\\")]
    [' the', 'a\\tb', 'é', '\\xc3', '\\u2028', '\\\\']
    """
    # A lone surrogate stands for each byte that is no part of a whole character.
    text = token.decode(errors="surrogateescape")
    return "".join([character if _prints(character) else _escaped(character) for character in text])


def _prints(character: str) -> bool:
    return character.isprintable() and character != "\\"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
