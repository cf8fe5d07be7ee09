"""The hashes by which files are known again."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_code(folders: Iterable[Path]) -> str:
    """The hash of the Python files of some folders and of what lies in these, by name and content."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder).as_posix()}".encode())
            digest.update(b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
