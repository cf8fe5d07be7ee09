"""Text inside Markdown, whoever wrote it."""

import re
from typing import Any


def as_text(said: Any) -> str:
    r"""What somebody else named, as Markdown that shows it and does nothing.

    >>> as_text("runs/<img onerror=evil>"), as_text("![x](http://evil)"), as_text("owner/a_b-1 & co")
    ('runs/&lt;img onerror=evil>', '!\\[x\\](http://evil)', 'owner/a_b-1 & co')
    """
    return re.sub(r"([\[\]])", r"\\\1", str(said).replace("<", "&lt;"))


def fence_for(text: str) -> str:
    """A fence for code that the code itself does not hold."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
