"""`.tiktoken` files and `tiktoken.Encoding`s, in and out.

A file has one line per token: its bytes in base64, a space, its rank. From `load_tiktoken_bpe` in
https://github.com/openai/tiktoken/blob/main/tiktoken/load.py
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

import tiktoken

from configs import InputError, MissingInput
from configs.whole_folder import write_whole
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.piece_encoding import merge_by_rank


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """The ranks in a `.tiktoken` file, by the bytes of each token.

    Raises:
        MissingInput: there is no such file.
        InputError: a line is no token and rank, a token comes twice, or there is none.

    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"{path}: no such file; expected a .tiktoken file, one base64 token and its rank per line")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            token, rank = _read_line(line, f"{path}:{number}")
            if token in ranks:
                raise InputError(f"{path}:{number}: found {token!r} again, expected each token once; remove the line")
            ranks[token] = rank
    if not ranks:
        raise InputError(
            f"{path}: found no token, expected a base64 token and its rank on each line; give another file"
        )
    return ranks


def write_ranks(ranks: Mapping[bytes, int], path: str | Path) -> None:
    """Write `ranks` as a `.tiktoken` file, in the order of the ranks."""
    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    write_whole(path, b"".join([base64.b64encode(token) + b" %d\n" % rank for token, rank in by_rank]))


def to_tiktoken(bpe: BytePairEncoding, name: str) -> tiktoken.Encoding:
    """The `tiktoken.Encoding` that gives the same ids, faster."""
    pattern = bpe.split_pattern or r"(?s:.+)"
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=bpe.ranks, special_tokens=bpe.special_tokens)


def merges_from_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """For each token of two bytes or more, by rank, the two earlier tokens that it is joined from.

    They are what the token's bytes come to when encoded with the earlier ranks alone.

    Raises:
        InputError: these are more than two, for then no merge leads to the token.

    >>> merges_from_ranks({b"a": 0, b"b": 1, b"ab": 2, b"aab": 3})
    [(b'a', b'b'), (b'a', b'ab')]
    """
    merges: list[tuple[bytes, bytes]] = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = merge_by_rank(token, ranks, below=rank)
            if len(parts) != 2:
                raise InputError(
                    f"ranks: token {token!r} of rank {rank} comes to {len(parts)} earlier tokens, expected 2; no merge "
                    "leads to it, so remove it or add the token between"
                )
            merges.append((parts[0], parts[1]))
    return merges


def _read_line(line: bytes, where: str) -> tuple[bytes, int]:
    try:
        token, rank = line.split()
        return base64.b64decode(token, validate=True), int(rank)
    except (ValueError, binascii.Error):
        raise InputError(
            f"{where}: found {line[:40]!r}, expected a token in base64, a space and its rank; mend the line"
        ) from None
