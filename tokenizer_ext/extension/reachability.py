"""For each new token a text that encodes to it: through normaliser, pre-tokenizer and merges, none of them left out.

Rule R (`continued_bpe.py`) proves that the merges reach a token from its own bytes. Whether a text can bring those
bytes to the merges is another question: the pre-tokenizer may cut them, the normaliser may change them, and bytes
within a character are no text at all. So a witness is sought where it is cheapest, and each has been encoded.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.merge_learning import Merge, NewToken, PairIndex
from tokenizer_ext.extension.piece_counts import Piece
from tokenizer_ext.huggingface.byte_level_backend import is_spm, writing_of
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
from tokenizer_ext.huggingface.plain_text import merging_encoder

How = Literal["own text", "completed character", "corpus piece", "none"]
_TEXTS_TRIED = 512
_CONTINUATION = range(0x80, 0xC0)
_LEADS = {2: range(0xC2, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF5)}  # by the length of the character


@dataclass(frozen=True)
class Witness:
    """A text whose ids hold a token."""

    token: int
    how: How
    """Where the text comes from; "none" where no text was found."""
    text: str


def find_witnesses(
    tokenizer: PreTrainedTokenizerFast, tokens: Sequence[NewToken], pieces: Collection[Piece] = ()
) -> list[Witness]:
    """A witness for each of `tokens`, which are the newest of `tokenizer`, in their order.

    Tried are the token's own text; texts that complete the characters within which it begins or ends; and the text of
    those of `pieces` (of the corpus, counted before the extension) that come to hold it. Whole pieces are not looked up
    (`ignore_merges` is off): else any token would be found by its own text. SentencePiece puts a space before every
    text, so there a text is also tried without its own space, and after a line break.

    Raises:
        InputError: the tokenizer takes no merges.

    """
    encoder = merging_encoder(tokenizer)
    witnesses: dict[int, Witness] = {}
    shown_as = _texts_for_spm if is_spm(tokenizer) else _decoded
    own = [(merge.token, text) for merge in tokens for text in shown_as([merge.token_bytes])]
    for (token, text), encoding in zip(own, encoder.encode_batch_fast([text for _, text in own]), strict=True):
        if token in encoding.ids:
            witnesses[token] = Witness(token, "own text", text)
    for merge in tokens:
        if merge.token not in witnesses:
            _note(witnesses, merge.token, "completed character", completions(merge.token_bytes), encoder)
    missing = {merge.token for merge in tokens} - witnesses.keys()
    merges = [token for token in tokens if isinstance(token, Merge)]
    for token, contents in _piece_contents(missing, merges, pieces, token_bytes(tokenizer)).items():
        _note(witnesses, token, "corpus piece", shown_as(contents), encoder)
    return [witnesses.get(merge.token, Witness(merge.token, "none", "")) for merge in tokens]


def completions(token: bytes) -> Iterator[str]:
    """Texts that hold `token`, the characters within which it begins or ends completed at random; none for whole text.

    >>> text = next(completions("東".encode()[:2]))
    >>> text.encode()[:2] == "東".encode()[:2], list(completions("東".encode()))
    (True, [])
    """
    start = next((place for place, byte in enumerate(token) if byte not in _CONTINUATION), len(token))
    missing = _missing_bytes(token[start:])
    if not (start or missing):
        return
    draw = random.Random(0)
    for _ in range(_TEXTS_TRIED):
        if start == len(token):  # all within one character, of which the end may be missing too
            missing = draw.randrange(3)
        before = _start_of_character(start, missing if start == len(token) else 0, draw)
        yield from _decoded([before + token + _continuation(missing, draw)])


def _start_of_character(present: int, after: int, draw: random.Random) -> bytes:
    """The first bytes of a character of which `present` and then `after` more continuation bytes follow."""
    lengths = [length for length in _LEADS if length > present + after]
    if not present or not lengths:
        return b""
    length = draw.choice(lengths)
    return bytes([draw.choice(_LEADS[length])]) + _continuation(length - 1 - present - after, draw)


def _missing_bytes(token: bytes) -> int:
    """How many bytes the character lacks within which `token` ends."""
    for length, leads in _LEADS.items():
        for present in range(1, length):
            if len(token) >= present and token[-present] in leads:
                return length - present
    return 0


def _continuation(count: int, draw: random.Random) -> bytes:
    return bytes(draw.choices(_CONTINUATION, k=count))


def _note(witnesses: dict[int, Witness], token: int, how: How, texts: Iterable[str], encoder: Tokenizer) -> None:
    """Note the first of `texts` that encodes to `token`, if one does."""
    tried = list(texts)[:_TEXTS_TRIED]
    for text, encoding in zip(tried, encoder.encode_batch_fast(tried), strict=True):
        if token in encoding.ids:
            witnesses[token] = Witness(token, how, text)
            return


def _piece_contents(
    tokens: Collection[int], merges: Sequence[Merge], pieces: Collection[Piece], bytes_of_id: Mapping[int, bytes]
) -> dict[int, list[bytes]]:
    """For each of `tokens`, the bytes of the pieces that come to hold it."""
    texts: dict[int, list[bytes]] = {token: [] for token in tokens}
    if not tokens:
        return texts
    index = PairIndex(dict.fromkeys(pieces, 1))
    for merge in merges:
        index.apply((merge.left, merge.right), merge.token)
    for ids in index.pieces():
        for token in texts.keys() & set(ids):
            texts[token].append(b"".join([bytes_of_id[id_] for id_ in ids]))
    return texts


def _texts_for_spm(tokens: Iterable[bytes]) -> Iterator[str]:
    for text in _decoded(tokens):
        yield from (text, text.removeprefix(" "), f"\n{text}")


def _decoded(tokens: Iterable[bytes]) -> Iterator[str]:
    """The text of each token that is whole text."""
    for token in tokens:
        try:
            yield token.decode()
        except UnicodeDecodeError:
            continue


def assert_reachable(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[NewToken]) -> None:
    """Assert rule R for the merges among `tokens`, the newest of `tokenizer`, and that characters are tokens.

    That the bytes are new is checked where merges are appended. The rest is the same as this: the token's bytes, alone,
    come to that token by merges, since only its own pair can make it and the parts of that pair are older than it.
    """
    if not tokens:
        return
    model = merging_encoder(tokenizer).model  # else any token is found as a whole piece, by merges or not
    write = writing_of(tokenizer).write
    for token in tokens:
        ids = [made.id for made in model.tokenize(write(token.token_bytes))]
        assert ids == [token.token], f"{token} is not reached: its bytes alone become {ids}"
