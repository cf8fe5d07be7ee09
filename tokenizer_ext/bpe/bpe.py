r"""Byte-level BPE from scratch: the readable twin of tiktoken, which gives the same ids.

Text is cut into pre-tokens by a pattern; the UTF-8 bytes of each pre-token are joined, pair by pair, lowest rank first,
into tokens; the rank of a token is its id. The scheme is that of GPT-2: Radford et al., "Language Models are
Unsupervised Multitask Learners" (2019), section 2.2. Without a pattern a text is one piece, and this is plain byte
pair encoding, as in the example of https://en.wikipedia.org/wiki/Byte-pair_encoding:

>>> bpe = train_bpe(["aaabdaaabac"], 256 + 3, split_pattern=None)
>>> print("\n".join(vocabulary_lines(bpe.ranks)[256:]))  # in the article Z=aa, Y=ab and X=ZY
[a][a] -> [aa] 256
[a][b] -> [ab] 257
[aa][ab] -> [aaab] 258
>>> bpe.encode("aaabdaaabac")  # XdXac
[258, 67, 258, 64, 66]
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from configs import InputError, MissingInput
from configs.whole_folder import write_whole
from tokenizer_ext.bpe.byte_characters import GPT2_BYTE_ORDER, from_visible, visible
from tokenizer_ext.bpe.lone_surrogates import without_lone_surrogates
from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.bpe.piece_encoding import merge_by_rank
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN, SplitPattern, pattern_of_any
from tokenizer_ext.bpe.vocabulary_listing import vocabulary_lines

_CACHED_PIECES = 2**16
_CACHED_PIECE_LENGTH = 64
_NO_TOKENS: Mapping[str, int] = MappingProxyType({})


class BytePairEncoding:
    """Encodes text as ids and decodes them, as `tiktoken.Encoding` does with the same ranks.

    `ranks` gives every token's bytes its id and must hold all 256 single bytes. Without a `split_pattern`, text is not
    cut at all. Special tokens stand beside the ranks: they are found in text only where `encode` is told so.

    Raises:
        InputError: ids collide, or a byte has no rank.

    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        split_pattern: str | None = GPT2_SPLIT_PATTERN,
        special_tokens: Mapping[str, int] = _NO_TOKENS,
    ) -> None:
        self.ranks = dict(ranks)
        self.split_pattern = split_pattern
        self.special_tokens = dict(special_tokens)
        _check_ids(self.ranks, self.special_tokens)
        self._split = SplitPattern(split_pattern)
        self._special = pattern_of_any(self.special_tokens)
        self._bytes_of_id = {rank: token for token, rank in self.ranks.items()}
        self._bytes_of_id |= {id_: token.encode() for token, id_ in self.special_tokens.items()}
        self._ids_of_piece: dict[str, list[int]] = {}

    @property
    def vocabulary_size(self) -> int:
        """The number of rows a model needs for these ids: the largest id plus one."""
        return max(self._bytes_of_id) + 1

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = (),
        disallowed_special: Literal["all"] | Collection[str] = "all",
    ) -> list[int]:
        """The ids of `text`, where the special tokens in `allowed_special` become their ids.

        Those in `disallowed_special` ("all": every one that is not allowed) are an error; one that is in neither is
        encoded as plain text.

        Raises:
            InputError: a disallowed special token stands in `text`.

        """
        allowed = set(self.special_tokens if allowed_special == "all" else allowed_special)
        forbidden = set(self.special_tokens) - allowed if disallowed_special == "all" else set(disallowed_special)
        if forbidden and (found := pattern_of_any(forbidden).search(text)):
            raise InputError(
                f"text: found the special token {found.group()!r} at character {found.start()}, expected plain text; "
                f"pass allowed_special={{{found.group()!r}}} for its id, or disallowed_special=() to read it as text"
            )
        ids: list[int] = []
        for part in _cut(text, self._special, allowed):
            ids += [self.special_tokens[part]] if part in allowed else self.encode_ordinary(part)
        return ids

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text` read as plain text, whatever it holds."""
        ids: list[int] = []
        for piece in self._split.findall(without_lone_surrogates(text)):
            known = self._ids_of_piece.get(piece)
            ids += self._encode_piece(piece) if known is None else known
        return ids

    def _encode_piece(self, piece: str) -> list[int]:
        piece_bytes = piece.encode()
        if piece_bytes in self.ranks:  # also reaches a token that no chain of merges leads to, as tiktoken does
            ids = [self.ranks[piece_bytes]]
        else:
            ids = [self.ranks[token] for token in merge_by_rank(piece_bytes, self.ranks)]
        if len(piece) <= _CACHED_PIECE_LENGTH:
            if len(self._ids_of_piece) >= _CACHED_PIECES:
                self._ids_of_piece.clear()
            self._ids_of_piece[piece] = ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, with U+FFFD for bytes that are not UTF-8."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`.

        Raises:
            InputError: an id is in no use.

        """
        try:
            return b"".join([self._bytes_of_id[id_] for id_ in ids])
        except KeyError as unknown:
            raise InputError(
                f"ids: found {unknown}, expected ids in use, below {self.vocabulary_size}; decode with the vocabulary "
                "that made them"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write one JSON file: split pattern, special tokens, and ranks with tokens in GPT-2's visible bytes."""
        ranks = {visible(token): rank for token, rank in sorted(self.ranks.items(), key=lambda item: item[1])}
        content = {"split_pattern": self.split_pattern, "special_tokens": self.special_tokens, "ranks": ranks}
        write_whole(path, json.dumps(content, ensure_ascii=False, indent=0))

    def write_vocabulary(self, path: str | Path) -> None:
        """Write a listing to read: a line for each token, by id, with the two tokens that it is joined from.

        It cannot be loaded; `save` writes what can.
        """
        lines = vocabulary_lines(self.ranks, self.special_tokens)
        write_whole(path, "".join([f"{line}\n" for line in lines]))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The encoding that `save` wrote.

        Raises:
            MissingInput: there is no such file.
            InputError: it holds something else.

        """
        path = Path(path)
        if not path.is_file():
            raise MissingInput(f"{path}: no such file; expected one that BytePairEncoding.save wrote")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            ranks = {from_visible(token): rank for token, rank in content["ranks"].items()}
            return cls(ranks, content["split_pattern"], content["special_tokens"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: found {error!r}, expected JSON with split_pattern, special_tokens and ranks; write it with "
                "BytePairEncoding.save"
            ) from error


def train_bpe(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    split_pattern: str | None = GPT2_SPLIT_PATTERN,
    special_tokens: Sequence[str] = (),
) -> BytePairEncoding:
    """A vocabulary of `vocabulary_size` ids learned from `texts`.

    Ids 0-255 are the bytes in GPT-2's order, the merges follow, the special tokens are last. Texts are cut at special
    tokens first, so none of their characters is learned from.

    Raises:
        InputError: the size leaves no room, or `texts` hold too few pairs that occur twice.

    >>> bpe = train_bpe(["aaabdaaabac"], 259)
    >>> [bpe.decode([id_]) for id_ in bpe.encode("aaabdaaabac")]
    ['aaab', 'd', 'aaab', 'a', 'c']
    """
    new_tokens = vocabulary_size - len(GPT2_BYTE_ORDER) - len(special_tokens)
    if new_tokens < 0:
        raise InputError(
            f"vocabulary_size: found {vocabulary_size}, expected at least {vocabulary_size - new_tokens}: 256 bytes "
            f"and {len(special_tokens)} special tokens; raise it"
        )
    byte_ids = {byte: id_ for id_, byte in enumerate(GPT2_BYTE_ORDER)}
    words = _count_words(texts, SplitPattern(split_pattern), special_tokens)
    pieces = {tuple([byte_ids[byte] for byte in word.encode()]): count for word, count in words.items()}
    single_bytes = [bytes([byte]) for byte in GPT2_BYTE_ORDER]
    merges = learn_merges(pieces, single_bytes, new_tokens=new_tokens, first_id=len(single_bytes))
    if len(merges) < new_tokens:
        raise InputError(
            f"vocabulary_size: found {vocabulary_size}, expected at most {vocabulary_size - new_tokens + len(merges)}, "
            "for in these texts no other pair occurs twice; lower it or give more text"
        )
    ranks = {token: rank for rank, token in enumerate([*single_bytes, *(merge.token_bytes for merge in merges)])}
    return BytePairEncoding(
        ranks, split_pattern, {token: len(ranks) + index for index, token in enumerate(special_tokens)}
    )


def _check_ids(ranks: Mapping[bytes, int], special_tokens: Mapping[str, int]) -> None:
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise InputError(f"ranks: {len(missing)} single bytes have none, the first {missing[0]:#04x}; give all 256 one")
    repeated = [id_ for id_, count in Counter([*ranks.values(), *special_tokens.values()]).items() if count > 1]
    if repeated:
        raise InputError(f"ranks: {len(repeated)} ids name two tokens, the first {repeated[0]}; give each its own id")
    if "" in special_tokens:
        raise InputError("special_tokens: found an empty one, expected text; leave it out")


def _cut(text: str, special: re.Pattern[str], allowed: Collection[str]) -> Iterator[str]:
    """`text` in parts, of which each is an allowed special token or plain text."""
    start = position = 0
    while found := special.search(text, position):
        position = found.start() + 1
        if found.group() in allowed:
            yield text[start : found.start()]
            yield found.group()
            start = position = found.end()
    yield text[start:]


def _count_words(texts: Iterable[str], split: SplitPattern, special_tokens: Collection[str]) -> Counter[str]:
    words: Counter[str] = Counter()
    special = pattern_of_any(special_tokens)
    for text in map(without_lone_surrogates, texts):
        for part in special.split(text) if special_tokens else [text]:
            words.update(split.findall(part))
    return words
