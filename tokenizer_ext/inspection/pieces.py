"""A text as the pieces that a tokenizer makes of it: ids, the bytes of each, and the characters that these belong to.

Of every family: byte-level BPE writes bytes as visible characters, SentencePiece writes a space as U+2581 and a byte
that its vocabulary lacks as `<0xE6>`; an added token is its own text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.byte_characters import from_visible
from tokenizer_ext.bpe.lone_surrogates import without_lone_surrogates
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.huggingface.tokenizer_state import kept_while_unchanged

LONGEST_CHARACTER = 4
SPACE = "▁"
"""What SentencePiece writes for a space."""


@dataclass(frozen=True)
class CharacterPart:
    """What a piece holds of one character."""

    character: str | None
    """None where the bytes are no character."""
    first: int
    last: int
    of: int
    """It holds the bytes from the first to the last of so many, counted from 1."""

    @property
    def is_whole(self) -> bool:
        """Whether it holds all of it."""
        return self.first == 1 and self.last == self.of


@dataclass(frozen=True)
class Piece:
    """One token of a text."""

    id: int
    content: bytes
    is_added: bool
    """Whether it is a control token or a word that was added beside the vocabulary."""
    characters: tuple[CharacterPart, ...]


@dataclass(frozen=True, kw_only=True)
class CutText:
    """A text in the tokens of one vocabulary."""

    pieces: Sequence[Piece]
    """The first of them, as many as were asked for."""
    tokens: int
    text_bytes: int
    """Of the text as it was given, in UTF-8."""
    characters: int
    distinct: int
    """Ids that occur."""
    read_as: str | None
    """What the tokenizer made of the text before it cut it; None where that is the text itself."""

    @property
    def bytes_per_token(self) -> float:
        """How much of the text a token stands for."""
        return self.text_bytes / max(self.tokens, 1)


class PieceBytes:
    """What the ids of one tokenizer stand for."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.backend = tokenizer.backend_tokenizer
        self.added = {id_: token.content for id_, token in self.backend.get_added_tokens_decoder().items()}
        self.by_bytes = "ByteLevel" in repr(self.backend.decoder)

    def of(self, id_: int) -> bytes:
        """The bytes of one id as it stands within a text; none for an id without a token."""
        if id_ in self.added:
            return self.of_added(self.added[id_])
        return self.of_token(self.backend.id_to_token(id_) or "")

    def of_added(self, content: str) -> bytes:
        """The bytes of an added token; Gemma adds runs of spaces, and writes them as its decoder reads them."""
        return (content if self.by_bytes else content.replace(SPACE, " ")).encode()

    def of_token(self, token: str) -> bytes:
        """The bytes of what stands in the vocabulary."""
        if self.by_bytes:
            try:
                return from_visible(token)
            except KeyError:
                return token.encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):  # a byte that the vocabulary lacks
            return bytes([int(token[3:5], 16)])
        return token.replace(SPACE, " ").encode()


def cut_text(
    tokenizer: PreTrainedTokenizerFast, text: str, *, control: bool = False, shown: int | None = None
) -> CutText:
    """The text in the tokens of a vocabulary, none added around it; half a surrogate pair is read as U+FFFD.

    `control` says whether the names of control tokens in it count as these; else they are letters and signs, as they
    are in what a user says in a chat.

    Raises:
        InputError: the tokenizer has no fast backend.

    """
    text = without_lone_surrogates(text)
    encoder = plain_text_encoder(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False) if control else encoder.encode(text).ids
    known = PieceBytes(tokenizer)
    contents = [known.of(id_) for id_ in ids]
    joined = b"".join(contents)
    # A few more than are shown: the last one may end within a character.
    parts = characters_of(contents if shown is None else contents[: shown + LONGEST_CHARACTER])
    return CutText(
        pieces=[
            Piece(id_, content, id_ in known.added, characters)
            for id_, content, characters in zip(ids[:shown], contents, parts, strict=False)
        ],
        tokens=len(ids),
        text_bytes=len(text.encode()),
        characters=len(text),
        distinct=len(set(ids)),
        read_as=None if joined == text.encode() else joined.decode(errors="backslashreplace"),
    )


@kept_while_unchanged
def vocabulary_pieces(tokenizer: PreTrainedTokenizerFast) -> frozenset[bytes]:
    """The bytes of every token, so that those of two vocabularies can be told apart whatever their ids are."""
    known = PieceBytes(tokenizer)
    tokens = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    return frozenset([*map(known.of_token, tokens), *map(known.of_added, known.added.values())])


def characters_of(contents: Sequence[bytes]) -> list[tuple[CharacterPart, ...]]:
    r"""For each of some pieces that follow one another the characters that it holds, or holds a part of.

    >>> [[(part.character, part.first, part.last) for part in parts] for parts in characters_of([b"a\xc3", b"\xa9"])]
    [[('a', 1, 1), ('é', 1, 1)], [('é', 2, 2)]]
    """
    joined = b"".join(contents)
    characters = _split(joined)  # start, end and text of each
    found: list[tuple[CharacterPart, ...]] = []
    start = place = 0
    for content in contents:
        end = start + len(content)
        parts = []
        while place < len(characters) and characters[place][0] < end:
            begins, ends, character = characters[place]
            first, last = max(begins, start) - begins + 1, min(ends, end) - begins
            parts.append(CharacterPart(character, first, last, ends - begins))
            if ends > end:
                break
            place += 1
        found.append(tuple(parts))
        start = end
    return found


def _split(content: bytes) -> list[tuple[int, int, str | None]]:
    """Where each character of some bytes begins and ends; a byte that belongs to none stands alone."""
    found: list[tuple[int, int, str | None]] = []
    start = 0
    while start < len(content):
        length, character = _first_character(content[start : start + LONGEST_CHARACTER])
        found.append((start, start + length, character))
        start += length
    return found


def _first_character(content: bytes) -> tuple[int, str | None]:
    for length in range(1, len(content) + 1):
        try:
            return length, content[:length].decode()
        except UnicodeDecodeError:
            continue
    return 1, None
