"""Characters that nobody sees and a model reads: zero-width, bidirectional, tags, fillers, control characters.

What scripts and emoji need is left alone: joiners in Arabic, Persian and Indic words and between emoji, marks of
direction beside letters that run from right to left, one variation selector behind a symbol, the tags of flags. The
ranges are those of Unicode 16, chapters 23.2 to 23.9; "Trojan Source" (Boucher and Anderson 2021) is why bidirectional
ones count.
"""

import re

import regex

UNSEEN = {
    "zero-width character": "\u200b\u200c\u200d\u2060-\u2064\ufeff\u00ad\u180e\u034f",
    "bidirectional control": "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069",
    "tag character": "\U000e0000-\U000e007f",
    "variation selector": "\ufe00-\ufe0f\U000e0100-\U000e01ef",
    "invisible filler": "\u115f\u1160\u3164\uffa0\u2800\u206a-\u206f",
    "control character": "\x00-\x08\x0b\x0e-\x1f\x7f\x80-\x84\x86-\x9f",
}
ANY = re.compile(f"[{''.join(UNSEEN.values())}]")
IN_ASCII = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
KIND_OF = {kind: re.compile(f"[{ranges}]") for kind, ranges in UNSEEN.items()}
NEEDED = regex.compile(
    r"(?V1)(?<=[\p{Arabic}\p{Devanagari}\p{Bengali}\p{Tamil}\p{Telugu}\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Gujarati}"
    r"\p{Gurmukhi}\p{Oriya}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Mongolian}\p{M}])[\u200c\u200d]"
    r"|(?<=[\p{Emoji}\ufe0f])\u200d(?=\p{Emoji})"
    r"|(?<=[\p{S}\p{P}\p{N}\p{Emoji}])[\ufe0e\ufe0f](?![\ufe00-\ufe0f\U000e0100-\U000e01ef])"
    r"|(?<=\p{Han})[\ufe00-\ufe0f\U000e0100-\U000e01ef](?![\ufe00-\ufe0f\U000e0100-\U000e01ef])"
    r"|\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{2,6}\U000e007f"
)
RIGHT_TO_LEFT = regex.compile(r"[\p{Hebrew}\p{Arabic}\p{Syriac}\p{Thaana}]")
MARKS_OF_DIRECTION = re.compile("[\u061c\u200e\u200f]")


def invisible_kinds(text: str) -> list[str]:
    r"""The kinds of invisible characters in a text that nothing there needs.

    >>> invisible_kinds("pay\u200bload \u202egnp.exe"), invisible_kinds("👩\u200d💻 ❤\ufe0f 1\t2\n")
    (['zero-width character', 'bidirectional control'], [])
    """
    if not (IN_ASCII if text.isascii() else ANY).search(text):
        return []
    rest = NEEDED.sub("", text)
    if RIGHT_TO_LEFT.search(rest):
        rest = MARKS_OF_DIRECTION.sub("", rest)
    return [kind for kind, characters in KIND_OF.items() if characters.search(rest.removeprefix("\ufeff"))]
