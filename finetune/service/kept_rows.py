"""Conversations that somebody kept as training rows, a line of OpenAI's messages each."""

import os
from pathlib import Path

NAME = "kept.jsonl"


def keep_row(folder: Path, row: str) -> tuple[Path, int]:
    """Adds a line to the folder's kept rows, synced to the disk; the file, and which line of it this is."""
    file = folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    before = len(file.read_bytes().splitlines()) if file.is_file() else 0
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        os.write(descriptor, f"{row}\n".encode())  # in one write, so that lines of two pages do not mix
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return file, before + 1
