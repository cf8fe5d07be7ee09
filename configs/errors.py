"""The errors that a user can mend, each one line that an entry prints before it exits with status 2."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line: where, what was found, what was expected, what to do.
    """


class MissingInput(InputError, FileNotFoundError):
    """A file or folder that the user named does not exist.

    >>> str(MissingInput("data.jsonl: no such file, pass a JSONL file as --data"))
    'data.jsonl: no such file, pass a JSONL file as --data'
    """
