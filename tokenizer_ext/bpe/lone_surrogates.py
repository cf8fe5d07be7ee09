"""Surrogates that have no partner: code points of a Python string that UTF-8 cannot hold."""


def without_lone_surrogates(text: str) -> str:
    r"""`text` with U+FFFD for each lone surrogate, and the character itself for two that belong together.

    tiktoken reads them so: https://github.com/openai/tiktoken/blob/main/tiktoken/core.py

    >>> without_lone_surrogates("a\ud83d b\ud83d\ude42")
    'a\ufffd b\U0001f642'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
