"""What a reply shows by itself: whether it is or contains the known answer, and whether it repeats itself."""

import re
from collections import Counter
from decimal import Decimal

import regex

from finetune.conversations.formats import final_answer

REPEATED_WORDS, REPEATED_TIMES = 4, 3
NUMBER = r"(-?)\$?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
# Where text is written without spaces, every character may end a word.
LETTER = r"[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]"
BEGINNING, END = rf"(?V1)(?<!{LETTER})", rf"(?!{LETTER})"
NUMBER_AS_WORD = regex.compile(rf"{BEGINNING}(?<![0-9][.,]){NUMBER}{END}(?![.,][0-9])")


def is_right(reply: str, expected: str) -> bool:
    """Whether a reply, or what follows its last `####`, is the expected answer; quotes and a full stop around it aside.

    Numbers are right by their value: GSM8K writes ``1,080`` for what another writes ``$1080.00``.

    >>> is_right("`None`.", "None"), is_right("48/2=24 so #### 24", "24"), is_right("Not None", "None")
    (True, True, False)
    """
    said, wanted = _bare(final_answer(reply) or reply), _bare(expected)
    return said == wanted or (_number(said) is not None and _number(said) == _number(wanted))


def answer_given(reply: str) -> str | None:
    """What `is_right` looks at in a reply, written so that equal answers are equal texts; None where nothing is said.

    >>> answer_given("So #### $1,080.00"), answer_given("#### 1080"), answer_given("`None`."), answer_given(" ")
    ('1080', '1080', 'None', None)
    """
    said = _bare(final_answer(reply) or reply)
    number = _number(said)
    if number is None:
        return said or None
    whole, point, decimals = f"{abs(number) if number == 0 else number:f}".partition(".")
    return f"{whole}{point}{decimals}".rstrip("0").rstrip(".") if point else whole


def contains_answer(reply: str, expected: str) -> bool:
    """Whether the expected answer stands anywhere in a reply as a word of its own, or is the reply; numbers by value.

    Fair to a model that answers in sentences, and generous: it counts what is said on the way to another answer too.

    >>> contains_answer("The default of pass_number is 1.", "1"), contains_answer("It is 1.5, or 10.", "1")
    (True, False)
    >>> contains_answer("It returns `None`.", "None"), contains_answer("It has the NoneType.", "None")
    (True, False)
    """
    wanted = _bare(expected)
    number = _number(wanted)
    if number is not None:
        found = any(_value(said) == number for said in NUMBER_AS_WORD.finditer(reply))
    else:
        words = r"\s+".join(map(regex.escape, wanted.split()))
        found = bool(words) and regex.search(f"{BEGINNING}{words}{END}", reply) is not None
    return found or is_right(reply, expected)


def repeats_itself(text: str) -> bool:
    """Whether four words in a row stand three times in a text.

    >>> repeats_itself("the sum of the " * 3), repeats_itself("the sum of all elements")
    (True, False)
    """
    words = text.split()
    runs = Counter(tuple(words[start : start + REPEATED_WORDS]) for start in range(len(words) - REPEATED_WORDS + 1))
    return max(runs.values(), default=0) >= REPEATED_TIMES


def _number(text: str) -> Decimal | None:
    found = re.fullmatch(NUMBER, text)
    return _value(found) if found else None


def _value(number: "re.Match[str] | regex.Match[str]") -> Decimal:
    # Decimal reads numbers of any length; int, and so Fraction, refuse more than 4,300 digits.
    return Decimal(number[1] + number[2].replace(",", ""))


def _bare(text: str) -> str:
    stripped = text.strip()
    # An answer of quotes alone (`''`, an empty default) is not the empty reply.
    return stripped.strip("`'\"").rstrip(".").strip("`'\"") or stripped
