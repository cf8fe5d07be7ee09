"""The text that a model learns from, read from files: any UTF-8 file, and Tiny Shakespeare."""

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

from configs import InputError, MissingInput
from configs.whole_folder import write_whole

TINY_SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, line ends as they are.

    Raises:
        InputError: the file is missing, a folder, empty, or not UTF-8.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInput(f"{path}: no such file, expected a text file in UTF-8")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a text file in UTF-8")
    content = path.read_bytes()
    if not content:
        raise InputError(f"{path}: is empty, expected a text file in UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is 0x{content[error.start]:02x}"
        raise InputError(f"{path}: {found}, expected text in UTF-8: convert the file first") from None


def tiny_shakespeare() -> str:
    """Tiny Shakespeare (1,115,394 characters), downloaded once into the user's cache and checked against its sha256.

    Source: github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt; the text is in the public domain.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "graft" / "tinyshakespeare.txt"
    if not (path.is_file() and _sha256(path.read_bytes()) == TINY_SHAKESPEARE_SHA256):
        write_whole(path, _download(TINY_SHAKESPEARE_URL), shared=True)
    return read_text(path)


def _download(url: str) -> bytes:
    instead = "download it elsewhere and pass the file as --data PATH"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            content: bytes = response.read()
    except (OSError, HTTPException) as error:
        raise InputError(f"{url}: cannot be downloaded ({error}); {instead}") from None
    if _sha256(content) != TINY_SHAKESPEARE_SHA256:
        raise InputError(f"{url}: sha256 is {_sha256(content)}, expected {TINY_SHAKESPEARE_SHA256}; {instead}")
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
