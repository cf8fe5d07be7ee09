"""How often a corpus must use a token for it to stay, checked before any library is loaded."""

from configs import InputError


def check_uses(minimum_uses: int) -> None:
    """Refuses a number that keeps tokens which are never used.

    Raises:
        InputError: it is below 1.

    """
    if minimum_uses < 1:
        raise InputError(f"minimum_uses: found {minimum_uses}, expected 1 or more")
