"""The tokenizer behind published ranks, shown step by step and held against tiktoken."""

from pathlib import Path
from typing import Literal

import tiktoken

from configs import InputError
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.exercise import PlainTokenizer, recover
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN, GPT4_SPLIT_PATTERN
from tokenizer_ext.bpe.tiktoken_files import read_ranks, to_tiktoken
from tokenizer_ext.bpe.vocabulary_listing import shown

PATTERNS = {"gpt2": GPT2_SPLIT_PATTERN, "gpt4": GPT4_SPLIT_PATTERN}


def read_encoding(ranks: str, split: Literal["gpt2", "gpt4"]) -> BytePairEncoding:
    """The encoding of a .tiktoken file, or the one that tiktoken knows by this name.

    Raises:
        InputError: there is neither such a file nor such a name, or its ranks cannot be downloaded or read.
    """
    if Path(ranks).exists():
        return BytePairEncoding(read_ranks(ranks), PATTERNS[split])
    known = tiktoken.list_encoding_names()
    if ranks not in known:
        raise InputError(f"ranks {ranks}: no such file, expected a .tiktoken file or one of {', '.join(known)}")
    try:
        encoding = tiktoken.get_encoding(ranks)
    except (OSError, ValueError) as error:
        reason = f"cannot be downloaded ({type(error).__name__})"
        raise InputError(f"ranks {ranks}: {reason}; fetch its .tiktoken file elsewhere and pass that") from None
    # tiktoken has no public way to them.
    return BytePairEncoding(encoding._mergeable_ranks, encoding._pat_str, encoding._special_tokens)


def recover_plain(encoding: BytePairEncoding) -> PlainTokenizer:
    """The same tokenizer by merges alone.

    Raises:
        InputError: no merge leads to a token.
    """
    return recover(encoding.ranks, encoding.split_pattern, encoding.special_tokens)


def describe_recovery(plain: PlainTokenizer, encoding: BytePairEncoding, text: str, corpus: str | None) -> str:
    """What was recovered, and whether it gives tiktoken's ids, in lines to print.

    Raises:
        InputError: the ids differ.
    """
    lines = [
        f"tokens: {len(encoding.ranks):,}, special tokens: {len(encoding.special_tokens)}",
        f"bytes: {_describe_bytes(plain)}",
        f"merges: {len(plain.merges):,}, {_describe_merges(plain)}",
        f"text: {text!r}",
        f"ids: {_equal_ids(plain, encoding, text)}",
    ]
    if corpus is not None:
        count = len(_equal_ids(plain, encoding, corpus))
        lines.append(f"corpus: {count:,} ids for {len(corpus.encode()):,} bytes, all as tiktoken gives them")
    return "\n".join(lines)


def write_tokenizer(plain: PlainTokenizer, encoding: BytePairEncoding, folder: Path) -> None:
    """Writes what opens in the twin, the merges in GPT-2's form, and the vocabulary to read."""
    table = plain.token_bytes()
    merges = [f"{visible(table[left])} {visible(table[right])}\n" for left, right in plain.merges]
    encoding.save(folder / "bpe.json")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(merges), encoding="utf-8")
    encoding.write_vocabulary(folder / "vocabulary.txt")


def _describe_bytes(plain: PlainTokenizer) -> str:
    moved = [byte for byte, id_ in enumerate(plain.byte_ids) if id_ != byte]
    if not moved:
        return "each is its own id"
    by_id = sorted(range(256), key=plain.byte_ids.__getitem__)
    return f"{len(moved)} of 256 have an id that is not their own number; id 0 is byte {by_id[0]}"


def _describe_merges(plain: PlainTokenizer) -> str:
    if not plain.merges:
        return "for all tokens are single bytes"
    table = plain.token_bytes()
    first, last = ([*plain.merges][place] for place in (0, -1))
    ends = [
        f"[{shown(table[left])}][{shown(table[right])}] -> {plain.merges[left, right]}" for left, right in (first, last)
    ]
    return "from {} to {}".format(*ends)


def _equal_ids(plain: PlainTokenizer, encoding: BytePairEncoding, text: str) -> list[int]:
    ids = plain.encode(text)
    if ids != to_tiktoken(encoding, "authority").encode_ordinary(text):
        raise InputError(f"text {text[:40]!r}: the recovered merges do not give tiktoken's ids; a token has no merge")
    return ids
