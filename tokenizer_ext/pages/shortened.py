"""Text cut to what a line has room for."""


def shorten(text: str, characters: int) -> str:
    """The text, cut to so many characters where it is longer, the last of them three dots in one.

    >>> shorten("vocabulary", 6), shorten("token", 6)
    ('vocab…', 'token')
    """
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
