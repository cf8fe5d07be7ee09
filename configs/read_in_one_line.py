"""Whatever a library raises while it reads somebody else's files, as one line that names the place."""

from collections.abc import Iterator
from contextlib import contextmanager

from configs.errors import InputError, OutOfMemory, lacks_memory, on_one_line


@contextmanager
def read_in_one_line(what: str, expected: str) -> Iterator[None]:
    """Turns every exception but our own into an `InputError`: `what` (the reason): `expected`.

    A library in Rust panics with an exception that is no `Exception`.

    Raises:
        InputError: something was raised.
        OutOfMemory: it was that there is not enough memory.

    """
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if lacks_memory(error):
            raise OutOfMemory(f"{what} (it takes more memory than there is), expected one that fits") from error
        reason = on_one_line(error, 160) or type(error).__name__
        raise InputError(f"{what} ({reason}): {expected}") from error
