"""The keys of a service: each may read (ask models, look at runs) or also train; only their hashes are kept.

    keys.json   {"keys": [{"id", "name", "may", "sha256", "created_at"}]}, readable by its owner alone

A key is 256 random bits, so one hash is enough: there is nothing that could be guessed.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock

from configs import InputError
from configs.whole_folder import write_whole

May = Literal["read", "train"]
NAME = re.compile(r"[A-Za-z0-9._@-]{1,40}")
PREFIX = "graft-"
FILE = "keys.json"


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key, without its secret."""

    id: str
    name: str
    may: May
    sha256: str
    created_at: int
    """Unix seconds."""


class KeyBook:
    """The keys in a service's folder; what another process changes counts from the next request on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._seen: tuple[int, int] | None = None
        self._keys: list[Key] = []

    def all(self) -> list[Key]:
        """Every key, the oldest first.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return []
        if self._seen != (state.st_mtime_ns, state.st_ino):
            self._keys = self._read()
            self._seen = (state.st_mtime_ns, state.st_ino)
        return self._keys

    def find(self, secret: str) -> Key | None:
        """The key with this secret."""
        digest = _sha256(secret)
        return next((key for key in self.all() if hmac.compare_digest(key.sha256, digest)), None)

    def add(self, name: str, may: May) -> str:
        """The secret of a new key, which is shown once and kept nowhere.

        Raises:
            InputError: the name is taken, or no name.
        """
        if not NAME.fullmatch(name):
            raise InputError(f"add: found {name!r}, expected a name of 1 to 40 letters, digits, '.', '_', '@' or '-'")
        with self._changing():
            if any(key.name == name for key in self.all()):
                raise InputError(f"add: there is a key {name} already: choose another name, or remove that one first")
            secret = PREFIX + secrets.token_urlsafe(32)
            key = Key(
                id=f"key-{secrets.token_hex(6)}",
                name=name,
                may=may,
                sha256=_sha256(secret),
                created_at=int(time.time()),
            )
            self._write([*self.all(), key])
        return secret

    def remove(self, name: str) -> None:
        """Takes a key away: its next request is refused.

        Raises:
            InputError: there is none of this name.
        """
        with self._changing():
            left = [key for key in self.all() if key.name != name]
            if len(left) == len(self.all()):
                known = ", ".join(key.name for key in self.all()) or "none"
                raise InputError(f"remove: there is no key {name!r}, expected one of: {known}")
            self._write(left)

    def _changing(self) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.with_name(f".{FILE}.lock"))

    def _read(self) -> list[Key]:
        try:
            keys = [Key(**entry) for entry in json.loads(self.path.read_text(encoding="utf-8"))["keys"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path}: cannot be read as keys ({error}): remove it, and add the keys anew"
            ) from None
        if wrong := [key.name for key in keys if key.may not in get_args(May)]:
            raise InputError(
                f"{self.path}: key {wrong[0]} may neither read nor train: remove it, and add the keys anew"
            )
        return keys

    def _write(self, keys: list[Key]) -> None:
        write_whole(self.path, json.dumps({"keys": [asdict(key) for key in keys]}, indent=2))
        os.chmod(self.path, 0o600)
        self._seen = None


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
