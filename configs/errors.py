"""The errors that a user can mend, each one line that an entry prints before exit status 2, and the end of a run."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line: where, what was found, what was expected, what to do.
    """


class MissingInput(InputError, FileNotFoundError):
    """A file or folder that the user named does not exist.

    >>> str(MissingInput("data.jsonl: no such file, pass a JSONL file as --data"))
    'data.jsonl: no such file, pass a JSONL file as --data'
    """


class FullDisk(InputError, OSError):
    """The disk has no room for what is to be written; whoever can do without it goes on, as after any `OSError`.

    >>> str(FullDisk("runs/sft-1: needs 2 bytes, 1 are free: make room"))
    'runs/sft-1: needs 2 bytes, 1 are free: make room'
    """


class RunStopped(Exception):
    """A run that was asked to end has saved what it did, and ended; the message says how it goes on."""


def on_one_line(error: BaseException, characters: int | None = None) -> str:
    r"""What an exception of a library says, as a part of one line: no line breaks, cut where it is longer.

    >>> on_one_line(ValueError("no such\n  file"))
    'no such file'
    """
    return " ".join(str(error).split())[:characters]


def first_line(error: BaseException, characters: int = 200) -> str:
    r"""The first line of what an exception says, and where it says nothing its name; the Hub's go on for many.

    >>> first_line(OSError("not found\nRequest ID: 7")), first_line(TimeoutError())
    ('not found', 'TimeoutError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:characters]
