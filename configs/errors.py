"""The errors that a user can mend, each one line that an entry prints before exit status 2, and the end of a run."""

import errno
import re

NO_MEMORY = re.compile(
    r"can(?:'t|not) allocate memory(?! in static TLS)|out of memory|std::bad_alloc|failed to map segment|"
    r"can't start new thread|ThreadPoolBuildError",
    re.IGNORECASE,
)
"""How torch, CUDA, libraries in C++ and Rust, the loader of libraries and Python's threads say that there is none."""


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


class OutOfMemory(InputError, MemoryError):
    """What the user named takes more memory than there is, or than this process may have.

    >>> lacks_memory(OutOfMemory("llama: no causal model (it takes more memory than there is)"))
    True
    """


class RunStopped(Exception):
    """A run that was asked to end has saved what it did, and ended; the message says how it goes on."""


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out or its limit was met, whichever library says so.

    >>> lacks_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
    True
    >>> lacks_memory(OSError(12, "Cannot allocate memory")), lacks_memory(OSError(13, "Permission denied"))
    (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, InputError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    is_of_a_library = isinstance(error, RuntimeError | OSError | ImportError) or not isinstance(error, Exception)
    return is_of_a_library and NO_MEMORY.search(str(error)) is not None


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
