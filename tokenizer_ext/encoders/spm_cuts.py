r"""Where SentencePiece's rules let no token span: its text is not cut beforehand, so every pair of tokens could merge.

A token holds "▁" only as its first character or consists of it, its other characters are of one script (Hiragana and
Katakana count as Han), and it has at most 16 characters: `split_by_whitespace`, `allow_whitespace_only_pieces`,
`split_by_unicode_script` and `max_sentencepiece_length` of
https://github.com/google/sentencepiece/blob/v0.2.0/src/sentencepiece_model.proto (`IsValidSentencePiece` in
`trainer_interface.cc`). A byte that stands for itself joins nothing. One rule is GPT-4's: a sign may stand first in a
word, as in ".nn" and "_size" (`[^\r\n\p{L}\p{N}]?\p{L}+` of cl100k_base).

Whether two tokens may join depends only on the characters that meet, so a merge that is learned within what is left
between the cuts can fire nowhere else.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise

import regex

from tokenizer_ext.bpe.written_tokens import MARK

LONGEST = 16
"""Characters of the longest token that is learned where no other limit is asked for."""
_SCRIPTS = (
    *("Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Syriac", "Thaana", "Devanagari", "Bengali"),
    *("Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Tibetan"),
    *("Myanmar", "Georgian", "Hangul", "Ethiopic", "Cherokee", "Khmer", "Mongolian", "Bopomofo", "Yi", "Nko"),
    *("Common", "Inherited"),
)
_SCRIPT = regex.compile(
    "|".join([rf"(?P<{script}>\p{{Script={script}}})" for script in _SCRIPTS])
    + r"|(?P<Han>[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}])"
)
_SIGN = "Common"
_ANY = "Inherited"  # marks belong to the letter before them
_ONLY_AT_ITS_START = regex.compile(f"{MARK}?[^{MARK}]+|{MARK}+")


def cut_where_no_merge_goes(ids: Iterable[int], texts: Mapping[int, str]) -> Iterator[tuple[int, ...]]:
    """The ids in pieces between which no token may span; an id without a text stands alone.

    >>> list(cut_where_no_merge_goes([1, 2, 3, 4, 1], {1: "▁of", 2: "▁torch", 3: ".", 4: "nn"}))
    [(1,), (2,), (3, 4), (1,)]
    """
    piece: list[int] = []
    for id_ in ids:
        if piece and not _may_join(texts.get(piece[-1], ""), texts.get(id_, "")):
            yield tuple(piece)
            piece = []
        piece.append(id_)
    if piece:
        yield tuple(piece)


def may_be_token(token: bytes, longest: int | None = LONGEST) -> bool:
    r"""Whether SentencePiece's rules allow the token, a space in it standing for "▁".

    >>> [may_be_token(token) for token in (b" model", b"   ", b"of model", b".nn", b"nn.", "日本の".encode(), b"\xe6")]
    [True, True, False, True, False, True, False]
    """
    try:
        text = token.decode().replace(" ", MARK)
    except UnicodeDecodeError:
        return False
    if not _ONLY_AT_ITS_START.fullmatch(text) or (longest and len(text) > longest):
        return False
    characters = text.lstrip(MARK)
    if len(characters) > 1 and _begins_word(characters[0], characters[1]):
        characters = characters[1:]
    return all(_same_script(left, right) for left, right in pairwise(characters))


def split_before_spaces(tokens: Iterable[str]) -> str:
    r"""A pattern whose matches, one after the other, are any marked text, and which no token of a vocabulary spans.

    They end where a "▁" follows another character, but for characters that a token of the vocabulary holds before "▁".

    >>> split_before_spaces(["▁a", "a"]), split_before_spaces([">▁</"])
    ('▁*[^▁]+|▁+', '▁*(?:[^▁]+(?:(?<=[>])▁+)?)+|▁+')
    """
    before = Counter(token[place - 1] for token in tokens for place in _marks_within(token))
    if not before:
        return f"{MARK}*[^{MARK}]+|{MARK}+"
    characters = "".join(regex.escape(character) for character in sorted(before))
    return f"{MARK}*(?:[^{MARK}]+(?:(?<=[{characters}]){MARK}+)?)+|{MARK}+"


def _marks_within(token: str) -> list[int]:
    return [place for place in range(1, len(token)) if token[place] == MARK and token[place - 1] != MARK]


def _may_join(left: str, right: str) -> bool:
    if not left or not right:
        return False
    if left[-1] == MARK or right[0] == MARK:
        return left[-1] == MARK
    return _same_script(left[-1], right[0]) or _begins_word(left[-1], right[0])


def _begins_word(sign: str, letter: str) -> bool:
    """Whether the first may stand before the second as ".nn" begins."""
    if _script(sign) != _SIGN or sign.isdigit() or sign.isspace():
        return False
    return letter.isalpha() and _script(letter) != _SIGN


def _same_script(left: str, right: str) -> bool:
    scripts = _script(left), _script(right)
    return scripts[0] == scripts[1] or scripts[1] == _ANY


@cache
def _script(character: str) -> str:
    """The script of a character; all that are not listed count as one."""
    found = _SCRIPT.match(character)
    return str(found.lastgroup) if found else ""
