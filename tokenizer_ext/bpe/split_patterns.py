"""The patterns that cut text into pre-tokens, compiled to cut as tiktoken does, character by character."""

import re
from collections.abc import Iterable

import regex

from configs import InputError

# Contractions, then words, numbers and punctuation with the space before them, then runs of whitespace (all but the
# last one where a word follows). From https://github.com/openai/gpt-2/blob/master/src/encoder.py
GPT2_SPLIT_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# Contractions in capitals too, a word takes any one character before it, digits go in threes, and line ends stay with
# the punctuation or the blanks before them. From `cl100k_base` in
# https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
GPT4_SPLIT_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)

# tiktoken and tokenizers know the characters of Unicode 16, `regex` those of later versions too: a letter that is
# newer than theirs is to be no letter here. All that regex 2026.11 assigns and tiktoken 0.14 does not.
_NEWER_THAN_UNICODE_16 = """
558 58B-58C 5C8-5C9 88F B53-B54 C5C CDC 1ACF-1AF0 208F 209D-209F 20C1-20C4 2B96 2E60-2E63 A7CE-A7CF A7D2 A7D4 A7DD A7E2
A7F1 AB6C-AB6D FBC3-FBD2 FD90-FD91 FDC8-FDCE 107BB-107BF 10940-10959 10EC5-10EC7 10EC9-10EEE 10EF0-10EFB 11B0A
11B60-11B67 11DB0-11DDB 11DE0-11DE9 11DF0-11DF1 1246F 12475-1247F 12550-12686 16EA0-16EB8 16EBB-16ED3 16FF2-16FF6
187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2 1B123-1B128 1B168 1CCFA-1CCFC 1CEBA-1CED0
1CED2-1CED4 1CEDD-1CEFD 1D127-1D128 1D1EB-1D1FF 1D250-1D281 1D6A6 1DB00-1DB1C 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96
1DFCD-1DFFF 1E6C0-1E6DE 1E6E0-1E6F5 1E6FE-1E6FF 1F1AE 1F6D8-1F6D9 1F777-1F77A 1F7DA-1F7DB 1F7F1-1F7FF 1F8D0-1F8D8
1FA54-1FA57 1FA8A-1FA8E 1FAC8 1FACC-1FACD 1FADD 1FAEA-1FAEB 1FAEF 1FAF9-1FAFA 1FBFA 2B73A-2B73F 2B81E 2CEA2-2CEAD
323B0-33479 3D000-3FC3F
"""
_NEWER = regex.compile(
    "["
    + "".join("-".join(chr(int(end, 16)) for end in ends.split("-")) for ends in _NEWER_THAN_UNICODE_16.split())
    + "]"
)


class SplitPattern:
    """A pattern whose matches are the pre-tokens of a text; with None, the whole text is one.

    Raises:
        InputError: it is no regular expression, or has a group, which `findall` would give instead.

    >>> SplitPattern(GPT2_SPLIT_PATTERN).findall("It's  2 words")
    ['It', "'s", ' ', ' 2', ' words']
    >>> SplitPattern(None).findall("It's  2 words")
    ["It's  2 words"]
    """

    def __init__(self, split_pattern: str | None) -> None:
        pattern = r"(?s:.++)" if split_pattern is None else split_pattern
        try:
            self._pattern = regex.compile(pattern)
            self._narrow = regex.compile(_without_newer_characters(pattern))
        except regex.error as error:
            raise InputError(f"split_pattern: found {pattern!r} ({error}), expected a regular expression") from error
        if self._pattern.groups:
            raise InputError(f"split_pattern: found {pattern!r} with a group, expected none; write (?:...) for (...)")

    def findall(self, text: str) -> list[str]:
        """The pre-tokens of `text`, in their order."""
        # Narrowing takes twice the time, and hardly a text needs it.
        pattern = self._narrow if not text.isascii() and _NEWER.search(text) else self._pattern
        return pattern.findall(text)


def pattern_of_any(tokens: Iterable[str]) -> re.Pattern[str]:
    r"""A pattern that finds any of `tokens`, the longest first where one begins like another, and nothing for none.

    >>> pattern_of_any(["<a>", "<a><b>"]).findall("<a> <a><b>"), pattern_of_any([]).findall("<a>")
    (['<a>', '<a><b>'], [])
    """
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")  # regex takes four times as long here


def _without_newer_characters(split_pattern: str) -> str:
    r"""The pattern with every property, such as `\p{L}`, less the characters that are newer than Unicode 16."""
    narrowed = regex.sub(r"\\p\{[^}]+\}", lambda found: f"[{found.group()}--{_NEWER.pattern}]", split_pattern)
    return narrowed if narrowed == split_pattern else f"(?V1){narrowed}"  # version 1 has differences of sets
