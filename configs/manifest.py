"""The files of a finished folder with size and sha256, in `manifest.json`, so that a damaged one is found before use.

    python -m configs.manifest --folder DIR

Every folder that a command leaves and that is read again has one, written last. `README.md` and `*.html` are not in it:
people edit them, the Hub shows them, and no model says anything else for it; nor are names that begin with a dot, which
the Hub and file managers add. Every other file decides what the folder is, so one that was changed, lost or added is
refused. Who changed one on purpose, such as the base that an adapter names, says so by the command above.

What was found whole is remembered on this machine for as long as no file has another size, time of change or number on
the disk, as for the hash of a base. What has to be a proof asks for it anew.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.cache_folder import cache_folder
from configs.entry import run_entry
from configs.errors import InputError, MissingInput
from configs.file_hash import file_sha256
from configs.whole_folder import whole_folder, write_whole

MANIFEST = "manifest.json"
REOPENED = "reopened"
"""What a record says whose folder was opened again and compared before the record was written: it has a manifest."""
RECORDS = ("certificate.json", "receipt.json", "base.json", "delta.json", "trim.json")
OF_PEOPLE = ("README.md", ".html")
DECISIVE = {".json", ".safetensors", ".jinja", ".txt", ".model", ".bin", ".pt", ".pth", ".py"}
"""Files that a library reads without being told, so that one more of them is a change."""
OF_OURS = re.compile(rb'"sha256"|[0-9a-f]{64}')
"""What a manifest of ours holds of each file, so that no flipped bit makes it one of another tool."""
SECONDS_OF_DOUBT = 2.0
"""A file that changed so shortly before it was hashed may change again without another time of change."""


@dataclass(frozen=True, kw_only=True)
class ManifestSettings:
    """A folder whose files were changed on purpose."""

    folder: str
    """Folder whose `manifest.json` is written anew, for its files as they are now."""


def main(settings: ManifestSettings) -> None:
    """Accepts the files of a folder as they are."""
    folder = Path(settings.folder)
    if not (folder / MANIFEST).exists() and not _witness(folder):
        raise MissingInput(f"folder {folder}: holds no {MANIFEST}, expected a folder that a command here wrote")
    write_whole(folder / MANIFEST, _describe_files(folder))
    print(f"Written: {folder / MANIFEST}, for its files as they are now")


@contextmanager
def sealed_folder(target: str | Path, *, shared: bool = False, needed: int = 0) -> Iterator[Path]:
    """As `configs.whole_folder`, with a manifest in each folder that holds files, written last.

    Raises:
        FullDisk: the disk has no room for it.

    """
    with whole_folder(target, shared=shared, needed=needed) as partial:
        yield partial
        seal(partial)


def seal(folder: Path) -> None:
    """Writes the manifests of a folder and of those in it."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and _covered(path):
            (path / MANIFEST).write_text(_describe_files(path), encoding="utf-8")


def check_manifest(folder: str | Path, *, anew: bool = False) -> None:
    """Refuses a folder in which a file is not the one that was saved; a folder that never had a manifest passes.

    With `anew` every file is hashed, whatever is remembered.

    Raises:
        InputError: a file was changed, lost or added, or the manifest is lost.

    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        if witness := _witness(folder):
            raise MissingInput(
                f"{folder / MANIFEST}: is missing, and {witness} says that there was one, so what is in the folder "
                f"is not known: {_remedy(folder)}"
            )
        return
    state, began = _state(folder), time.time()
    remembered = cache_folder() / "whole_folders" / _name(folder)
    if not anew and _read_json(remembered) == state:
        return
    if problem := find_damage(folder):
        raise InputError(f"{problem}: {_remedy(folder)}")
    newest = max(times for _name, _size, *times, _number in state)
    if max(newest) / 1e9 < began - SECONDS_OF_DOUBT:
        with suppress(OSError):  # a full disk or a folder closed to us; then it is hashed again
            write_whole(remembered, json.dumps(state), shared=True)


def find_damage(folder: Path) -> str | None:
    """What is wrong with a folder that has a manifest, with its place; None where every file is the one saved."""
    if not (expected := _read_manifest(folder)):
        return None if _is_of_others(folder) else f"{folder / MANIFEST}: is damaged"
    for name, known in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{path}: is missing"
        if path.stat().st_size != known["bytes"]:
            return f"{path}: has {path.stat().st_size:,} bytes, expected {known['bytes']:,}"
        if (found := file_sha256(path)) != known["sha256"]:
            return f"{path}: is not the file that was saved (sha256 {found[:12]}, expected {known['sha256'][:12]})"
    for path in _covered(folder):
        if path.name not in expected and path.suffix in DECISIVE:
            return f"{path}: was not there when the folder was saved"
    return None


def _covered(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name != MANIFEST)
    return sorted(path for path in files if not path.name.endswith(OF_PEOPLE) and path.is_file())


def _describe_files(folder: Path) -> str:
    files = {path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in _covered(folder)}
    return json.dumps(files, indent=1)  # without a line break at the end, so that none of it can be cut


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]] | None:
    """The files by name; None where the manifest is not one of ours, or damaged."""
    files = _read_json(folder / MANIFEST)
    if not isinstance(files, dict) or not all(map(_is_entry, files.items())):
        return None
    return files


def _is_entry(entry: tuple[str, Any]) -> bool:
    name, known = entry
    is_name = name not in ("", ".", "..") and os.path.basename(name) == name and "\0" not in name
    has_both = isinstance(known, dict) and isinstance(known.get("sha256"), str) and isinstance(known.get("bytes"), int)
    return is_name and has_both


def _is_of_others(folder: Path) -> bool:
    """Whether a manifest is that of another tool, which says nothing to us: JSON in which no file has a sha256."""
    text = (folder / MANIFEST).read_bytes()
    return _read_json(folder / MANIFEST) is not None and not OF_OURS.search(text) and not _witness(folder)


def _witness(folder: Path) -> str | None:
    """The record that says that a folder had a manifest; None where none does."""
    folder = folder.absolute()
    for path in (*(folder / name for name in RECORDS), folder.parent / "base" / RECORDS[0]):
        record = _read_json(path)
        parts = (record, record.get("certificate")) if isinstance(record, dict) else ()
        if any(isinstance(part, dict) and part.get(REOPENED) is True for part in parts):
            return str(path)
    for run, part in ((folder.parent, folder.name), (folder.parent.parent, folder.parent.name)):
        record = _read_json(run / "run.json")
        if part in ("final", "merged") and isinstance(record, dict) and record.get("manifests") is True:
            return str(run / "run.json")
    return None


def _remedy(folder: Path) -> str:
    return (
        "get or make the folder anew; if that was changed on purpose, accept it by "
        f"`python -m configs.manifest --folder {folder}`"
    )


def _state(folder: Path) -> list[list[Any]]:
    found = ((path.name, path.stat()) for path in (folder / MANIFEST, *_covered(folder)))
    return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in found]


def _name(folder: Path) -> str:
    return f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}.json"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


if __name__ == "__main__":
    run_entry(main, ManifestSettings)
