"""JSON of a foreign folder, read within limits of size and depth."""

import json
import stat
from pathlib import Path
from typing import Any

from configs import InputError

MOST_BYTES = 64 << 20
"""Of any JSON file but tokenizer.json, of which the largest known is 33 MB."""
GET_ANEW = "get the model anew"


def read_object(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file.

    Raises:
        InputError: it is no regular file, too large, not JSON, nested too deeply, or no object.

    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected a JSON file: {GET_ANEW}") from None
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: is no regular file, expected a JSON file: {GET_ANEW}")
    if found.st_size > most_bytes:
        raise InputError(
            f"{path}: holds {found.st_size:,} bytes, expected at most {most_bytes:,} of such a file: {GET_ANEW}"
        )
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply, expected what transformers writes: {GET_ANEW}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a valid JSON file ({str(error)[:100]}): {GET_ANEW}") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise InputError(f"{path}: holds a {kind}, expected an object of names and values: {GET_ANEW}")
    return content
