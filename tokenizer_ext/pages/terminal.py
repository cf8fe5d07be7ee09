"""What reaches the terminal of a run: no library's advice, and no text that the terminal would act on."""

import warnings


def quiet_libraries() -> None:
    """Leaves the terminal to the run: no second progress bar, no advice for the authors of other training loops."""
    import transformers  # takes seconds, and `printable` is wanted by what starts at once

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")


def printable(text: str) -> str:
    r"""The text with control characters, other than line breaks and tabs, as escapes: it may come from anywhere.

    >>> printable("red: \x1b[31m\n")
    'red: \\x1b[31m\n'
    """
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
        for character in text
    )
