"""What an extension is asked for, checked before any library is loaded."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from configs import InputError


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The tokens that an extension is asked for."""

    new_tokens: int = 1000
    """Tokens to learn from the corpus; none where there is no corpus."""
    words: Sequence[str] = ()
    """Texts that become one token each, whatever the corpus holds; " word" is the form of a word within a text."""
    control_tokens: Sequence[str] = ()
    """Special tokens to add after them."""
    minimum_count: int = 2
    """How often the corpus must hold a pair for it to become a token."""
    maximum_bytes: int | None = None
    """Longest token to learn, in bytes."""
    digits: bool = False
    """Whether tokens with digits may be learned."""
    leave_out: Collection[bytes] = frozenset()
    """Tokens that are not learned, whatever they would save."""

    def __post_init__(self) -> None:
        if isinstance(self.words, str):
            raise InputError(f"words: found one string ({self.words[:40]!r}), expected a list of words")
        bounds = {"new_tokens": (self.new_tokens, 0), "minimum_count": (self.minimum_count, 1)}
        bounds["maximum_bytes"] = (2 if self.maximum_bytes is None else self.maximum_bytes, 2)
        for name, (found, least) in bounds.items():
            if found < least:
                raise InputError(f"{name}: found {found}, expected {least} or more")
        for word in self.words:
            if word.encode(errors="surrogatepass") in self.leave_out:
                raise InputError(f"words: {word!r} is also one of the tokens to leave out, expected it in one place")
            if inside := [token for token in self.control_tokens if token and token in word]:
                raise InputError(f"words: {word!r} holds the control token {inside[0]!r}, expected text without it")


def check_multiple(rows_multiple: int) -> None:
    """Refuses a number of rows that nothing is a multiple of.

    Raises:
        InputError: it is below 1.

    """
    if rows_multiple < 1:
        raise InputError(f"rows_multiple: found {rows_multiple}, expected 1 or more")
