"""A calculator for the annotations of GSM8K (Cobbe et al. 2021, section 4.2): ``48/2 = <<48/2=24>>24 clips``.

An annotation is ``<<``, arithmetic, ``=``, the result and ``>>``. With the calculator a model writes up to the ``=``,
and the calculator gives the result and the ``>>``. So a result is never learned, and never made up.

Nothing is handed to Python: the expression is parsed here, in numbers, ``+ - * / // **`` and brackets. It is counted in
exact fractions of at most `MAXIMUM_DIGITS` digits, so no expression takes long.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from configs import InputError

MAXIMUM_CHARACTERS = 200
MAXIMUM_DIGITS = 100
MAXIMUM_BRACKETS = 20
EXACT_PLACES = 12
ROUNDED_DIGITS = 6
# The characters are those of OpenAI's own calculator: https://github.com/openai/grade-school-math,
# grade_school_math/calculator.py. Text between << and >> with others in it is no annotation, and stays what it is.
# Possessive, so that a long row of digits costs no more than its length.
ARITHMETIC = r"(?P<expression>[+\-*/()., ]*+[0-9][0-9+\-*/()., ]*+)"
ANNOTATION = re.compile(rf"<<{ARITHMETIC}=(?P<result>[^<>=\n]*)>>")
TOKEN = re.compile(r" *(?:[0-9]+\.?[0-9]*|\.[0-9]+|\*\*|//|[-+*/()])")
THOUSANDS = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")


def evaluate(expression: str) -> str:
    """The value as GSM8K writes it: whole or decimal, exact where it has few places, else rounded to six digits.

    >>> [evaluate(text) for text in ("48/2", "175*.10", "0.50-.25", "1,000-2*(3+4)", "10/3")]
    ['24', '17.5', '0.25', '986', '3.33333']

    Raises:
        InputError: it is no arithmetic, divides by zero, or its numbers grow too long.
    """
    return write_number(value_of(expression))


def value_of(expression: str) -> Fraction:
    """The exact value.

    Raises:
        InputError: as `evaluate`.
    """
    return _Reader(expression).read()


def write_number(value: Fraction) -> str:
    """A number as GSM8K writes it.

    >>> write_number(Fraction(9, 2)), write_number(Fraction(-2, 3)), write_number(Fraction(200_000, 3))
    ('4.5', '-0.666667', '66666.67')
    """
    places = EXACT_PLACES
    if (value * 10**places).denominator != 1:
        whole_digits = len(str(int(abs(value)))) if abs(value) >= 1 else -_leading_zeros(value)
        places = max(2, ROUNDED_DIGITS - whole_digits)
    digits = f"{abs(round(value * 10**places)):0{places + 1}d}"
    text = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 and text != "0" else text


def split_results(content: str) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is learned: what the calculator gives (result, ``>>``) is not.

    >>> split_results("48/2 = <<48/2=24>>24 clips")
    [('48/2 = <<48/2=', True), ('24>>', False), ('24 clips', True)]
    """
    pieces, start = [], 0
    for found in ANNOTATION.finditer(content):
        pieces += [
            (content[start : found.start("result")], True),
            (content[found.start("result") : found.end()], False),
        ]
        start = found.end()
    return [*pieces, (content[start:], True)] if content[start:] or not pieces else pieces


def _leading_zeros(value: Fraction) -> int:
    """How many zeros follow the point of a number below one.

    >>> _leading_zeros(Fraction(1, 3)), _leading_zeros(Fraction(1, 300))
    (0, 2)
    """
    zeros = 0
    while 0 < abs(value) * 10 ** (zeros + 1) < 1:
        zeros += 1
    return zeros


class _Reader:
    """Reads an expression from left to right: sums of products of signed powers of numbers and brackets."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = _cut(expression)
        self.place = 0
        self.brackets = 0

    def read(self) -> Fraction:
        value = self._sum()
        if self.place < len(self.tokens):
            raise _refusal(self.expression, f"{self.tokens[self.place]!r} does not belong there")
        return value

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._take("+", "-"):
            right = self._product()
            value = self._bounded(value + right if sign == "+" else value - right)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while sign := self._take("*", "/", "//"):
            right = self._signed()
            if sign != "*" and right == 0:
                raise _refusal(self.expression, "it divides by zero")
            value = self._bounded(value * right if sign == "*" else value / right)
            value = Fraction(value.__floor__()) if sign == "//" else value
        return value

    def _signed(self) -> Fraction:
        negative = False
        while sign := self._take("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Fraction:
        base = self._atom()
        if not self._take("**"):
            return base
        exponent = self._signed()  # from the right: 2**3**2 is 2**9
        longest = max(len(str(base.numerator)), len(str(base.denominator)))
        if exponent.denominator != 1 or abs(exponent) * longest > MAXIMUM_DIGITS:
            raise _refusal(self.expression, f"the power {write_number(exponent)[:12]} is too large or not whole")
        if base == 0 and exponent < 0:
            raise _refusal(self.expression, "it divides by zero")
        return self._bounded(base ** int(exponent))

    def _atom(self) -> Fraction:
        if self._take("("):
            self.brackets += 1
            if self.brackets > MAXIMUM_BRACKETS:
                raise _refusal(self.expression, f"more than {MAXIMUM_BRACKETS} brackets are open")
            value = self._sum()
            if not self._take(")"):
                raise _refusal(self.expression, "a bracket is not closed")
            self.brackets -= 1
            return value
        token = self.tokens[self.place] if self.place < len(self.tokens) else ""
        if not token or token[0] not in "0123456789.":
            raise _refusal(self.expression, f"a number is missing before {token!r}" if token else "it ends too early")
        self.place += 1
        return self._bounded(Fraction(token))

    def _take(self, *signs: str) -> str:
        """The next token where it is one of the signs, which is then behind us; else nothing."""
        if self.place < len(self.tokens) and self.tokens[self.place] in signs:
            self.place += 1
            return self.tokens[self.place - 1]
        return ""

    def _bounded(self, value: Fraction) -> Fraction:
        if max(abs(value.numerator), value.denominator) >= 10**MAXIMUM_DIGITS:
            raise _refusal(self.expression, f"its numbers have more than {MAXIMUM_DIGITS} digits")
        return value


def _cut(expression: str) -> Sequence[str]:
    """Numbers and signs, thousands without their commas."""
    if len(expression) > MAXIMUM_CHARACTERS:
        raise _refusal(expression, f"it has {len(expression):,} characters")
    text = THOUSANDS.sub(lambda found: found[0].replace(",", ""), expression).rstrip()
    tokens, place = [], 0
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None:
            raise _refusal(expression, f"{text[place:].strip()[:1]!r} is no part of arithmetic")
        tokens.append(found[0].strip())
        place = found.end()
    return tokens


def _refusal(expression: str, reason: str) -> InputError:
    return InputError(
        f"calculator: {expression[:60]!r}: {reason}, expected numbers, + - * / // ** and brackets, "
        f"at most {MAXIMUM_CHARACTERS} characters"
    )


NO_VALUE = "error"
