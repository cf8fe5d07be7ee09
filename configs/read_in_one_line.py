"""Whatever a library raises while it reads somebody else's files, as one line that names the place."""

from collections.abc import Iterator
from contextlib import contextmanager

from configs.errors import InputError, on_one_line


@contextmanager
def read_in_one_line(what: str, expected: str) -> Iterator[None]:
    """Turns every exception but our own into an `InputError`: `what` (the reason): `expected`.

    A library in Rust panics with an exception that is no `Exception`.

    Raises:
        InputError: something was raised.

    """
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError:
        raise InputError(f"{what} (it takes more memory than there is): {expected}") from None
    except BaseException as error:
        reason = on_one_line(error, 160) or type(error).__name__
        raise InputError(f"{what} ({reason}): {expected}") from error
