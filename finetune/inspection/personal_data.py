"""Personal data that has a form: e-mail addresses, telephone numbers, bank accounts, credit cards.

Names, addresses and whatever else has no form are not found. Addresses that are kept for examples (RFC 2606) and
American numbers that are kept for films (555-01xx) are nobody's.
"""

import re
from collections.abc import Callable

EMAIL = re.compile(r"\b[\w.+-]{1,64}@((?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24})\b")
FOR_EXAMPLES = re.compile(r"(?:^|\.)(?:example|test|invalid|localhost)(?:\.(?:com|org|net))?$", re.IGNORECASE)
PHONE = re.compile(r"(?<![\w+.=)-])\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,5}(?:[ .-]?\d{2,5}){1,4}(?![\w=+*/])")
AMERICAN = re.compile(r"(?<![\w.-])(?:\(\d{3}\) ?|\d{3}-)(?!555-01)\d{3}-\d{4}(?![\w-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
CARD = re.compile(r"(?<![\w.,-])[3-6]\d{3}([ -]?)\d{4,6}\1\d{4,5}(?:\1\d{1,7})?(?![\w.-])")
CARD_DIGITS = range(13, 20)
PHONE_DIGITS = range(9, 16)


def personal_data(text: str) -> list[str]:
    """The kinds of personal data that a text seems to hold.

    >>> personal_data("Write to ada@lovelace.org, pay with 4111 1111 1111 1111")
    ['e-mail address', 'credit card number']
    >>> personal_data("bob@example.com has +44 apples and 4111 1111 1111 1112 pears; 48 +240 = 288")
    []
    """
    return [name for name, holds in TESTS.items() if holds(text)]


def has_email(text: str) -> bool:
    """Whether there is an e-mail address that could be somebody's."""
    return "@" in text and any(not FOR_EXAMPLES.search(found[1]) for found in EMAIL.finditer(text))


def has_phone(text: str) -> bool:
    """Whether there is a telephone number, international (E.164) or American."""
    international = PHONE.findall(text) if "+" in text else []
    return any(sum(map(str.isdigit, one)) in PHONE_DIGITS for one in international) or (
        "-" in text and AMERICAN.search(text) is not None
    )


def has_iban(text: str) -> bool:
    """Whether there is an account number whose check digits are right (ISO 13616, remainder of 97)."""
    return any(_iban_is_right(found[0].replace(" ", "")) for found in IBAN.finditer(text))


def has_card(text: str) -> bool:
    """Whether there is a card number whose check digit is right (ISO 7812, Luhn)."""
    numbers = (re.sub(r"\D", "", found[0]) for found in CARD.finditer(text))
    return any(len(digits) in CARD_DIGITS and luhn_is_right(digits) for digits in numbers)


TESTS: dict[str, Callable[[str], bool]] = {
    "e-mail address": has_email,
    "telephone number": has_phone,
    "bank account (IBAN)": has_iban,
    "credit card number": has_card,
}


def luhn_is_right(digits: str) -> bool:
    """Whether the last digit is the check digit of the others.

    >>> luhn_is_right("79927398713"), luhn_is_right("79927398710")
    (True, False)
    """
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def _iban_is_right(account: str) -> bool:
    moved = account[4:] + account[:4]
    return 15 <= len(account) <= 34 and int("".join(str(int(character, 36)) for character in moved)) % 97 == 1
