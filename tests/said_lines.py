"""What a command says on its error stream beside the lines of its progress, of which a busy machine shows some."""

import re

PROGRESS = re.compile(r"\d\d:\d\d(, .*)?$")


def without_progress(said):
    """The text without the lines in which a clock runs."""
    return "".join(line for line in said.splitlines(keepends=True) if not PROGRESS.search(line.rstrip("\n")))
