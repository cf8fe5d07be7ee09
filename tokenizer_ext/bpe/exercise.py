"""Byte pair encoding in one file, written for reading: the steps of minbpe's exercise, one after the other.

`bpe.py` gives the same ids and is faster: it keeps count of pairs where they change, and merges by a queue. Here every
pair is counted anew for every merge, as one would do it by hand.

The exercise: https://github.com/karpathy/minbpe/blob/master/exercise.md; its fifth step, the comparison with
SentencePiece, is `python -m tokenizer_ext.compare_sentencepiece`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import regex

from configs import InputError

Pair = tuple[int, int]


# Step 1: train, encode, decode.


def count_pairs(pieces: Iterable[Sequence[int]]) -> Counter[Pair]:
    """How often each two ids stand side by side.

    >>> count_pairs([[1, 2, 3, 1, 2]]).most_common(1)
    [((1, 2), 2)]
    """
    return Counter(pair for piece in pieces for pair in pairwise(piece))


def replace_pair(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """The ids with `new_id` in the place of each such pair, from left to right.

    >>> replace_pair([5, 6, 6, 7, 9, 1, 6, 7], (6, 7), 99)
    [5, 6, 99, 9, 1, 99]
    """
    replaced: list[int] = []
    for id_ in ids:
        if replaced and (replaced[-1], id_) == pair:
            replaced[-1] = new_id
        else:
            replaced.append(id_)
    return replaced


@dataclass
class PlainTokenizer:
    """What a tokenizer is: ids of the bytes, and which two ids become which third."""

    byte_ids: Sequence[int] = range(256)
    """The id of each byte: step 3 needs another order than 0, 1, 2, ..."""
    merges: dict[Pair, int] = field(default_factory=dict)
    """The new id of each pair; a smaller one was learned earlier."""
    split_pattern: str | None = None
    """Step 2: merges never cross the ends of what it matches; without one the text is a single piece."""
    special_tokens: dict[str, int] = field(default_factory=dict)
    """Step 4: texts that are one id each, where `encode` is told so."""

    def encode(self, text: str, *, with_special: bool = False) -> list[int]:
        """The ids of a text; what looks like a special token is plain text, unless `with_special`.

        >>> PlainTokenizer(merges={(97, 97): 256}, special_tokens={"<end>": 300}).encode("aab<end>", with_special=True)
        [256, 98, 300]
        """
        if not (with_special and self.special_tokens):
            return [id_ for piece in self.split(text) for id_ in self.encode_piece(piece.encode())]
        any_special = "(" + "|".join(regex.escape(token) for token in self.special_tokens) + ")"
        ids: list[int] = []
        for part in regex.split(any_special, text):
            ids += [self.special_tokens[part]] if part in self.special_tokens else self.encode(part)
        return ids

    def split(self, text: str) -> list[str]:
        """The pieces of a text that are encoded each for itself."""
        return [text] if self.split_pattern is None else regex.findall(self.split_pattern, text)

    def encode_piece(self, piece: bytes) -> list[int]:
        """The ids of a piece: its bytes, joined by one merge after the other, the earliest learned first."""
        ids = [self.byte_ids[byte] for byte in piece]
        while known := [pair for pair in pairwise(ids) if pair in self.merges]:
            earliest = min(known, key=self.merges.__getitem__)
            ids = replace_pair(ids, earliest, self.merges[earliest])
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; bytes that are no whole character become U+FFFD."""
        table = self.token_bytes()
        return b"".join(table[id_] for id_ in ids).decode(errors="replace")

    def token_bytes(self) -> dict[int, bytes]:
        """The bytes of every id: single ones, then what the merges join, then the special tokens."""
        table = {id_: bytes([byte]) for byte, id_ in enumerate(self.byte_ids)}
        for (left, right), new_id in sorted(self.merges.items(), key=lambda merge: merge[1]):
            table[new_id] = table[left] + table[right]
        return table | {id_: token.encode() for token, id_ in self.special_tokens.items()}


def learn(
    text: str, vocabulary_size: int, split_pattern: str | None = None, byte_ids: Sequence[int] = range(256)
) -> PlainTokenizer:
    """A tokenizer of `vocabulary_size` ids: each merge joins the pair that occurs most often at that moment.

    Of pairs that occur equally often the one of smaller ids comes first. It ends early where no pair occurs twice.

    >>> learn("aaabdaaabac", 256 + 3).encode("aaabdaaabac")  # the example of Wikipedia's article on byte pair encoding
    [258, 100, 258, 97, 99]
    """
    tokenizer = PlainTokenizer(byte_ids, split_pattern=split_pattern)
    pieces = [tokenizer.encode_piece(piece.encode()) for piece in tokenizer.split(text)]  # no merge is known yet: bytes
    known = tokenizer.token_bytes()
    taken = set(known.values())
    while len(known) < vocabulary_size:
        # Two ways to the same bytes would be two ids for one token.
        counts = {
            pair: count
            for pair, count in count_pairs(pieces).items()
            if count > 1 and known[pair[0]] + known[pair[1]] not in taken
        }
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        new_id = len(known)
        known[new_id] = known[pair[0]] + known[pair[1]]
        taken.add(known[new_id])
        tokenizer.merges[pair] = new_id
        pieces = [replace_pair(piece, pair, new_id) for piece in pieces]
    return tokenizer


# Step 3: GPT-4's tokenizer from the ranks that tiktoken publishes.


def recover(ranks: Mapping[bytes, int], split_pattern: str | None, special_tokens: Mapping[str, int]) -> PlainTokenizer:
    """The tokenizer behind ranks, which say the id of each token but not what it was joined from.

    A token was joined from the two that its bytes come to when all merges before it were applied. And single bytes
    have ranks of their own, in another order than 0 to 255: what minbpe calls the byte shuffle.

    Raises:
        InputError: a token comes to more than two, so that no merge can have made it.
    """
    tokenizer = PlainTokenizer([ranks[bytes([byte])] for byte in range(256)], split_pattern=split_pattern)
    tokenizer.special_tokens = dict(special_tokens)
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = tokenizer.encode_piece(token)
        if len(parts) != 2:
            raise InputError(f"ranks: {token!r} of rank {rank} comes to {len(parts)} earlier tokens, expected 2")
        tokenizer.merges[parts[0], parts[1]] = rank
    return tokenizer
