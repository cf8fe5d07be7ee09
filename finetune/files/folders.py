"""A folder of data files, and the splits that the names of its files tell apart."""

import re
from pathlib import Path

from configs import InputError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
ABOUT_THE_DATA = ("dataset_info.json", "state.json", "dataset_dict.json")
"""What `Dataset.save_to_disk` writes beside the rows."""


def files_of_folder(folder: Path, suffixes: tuple[str, ...], split: str | None) -> list[Path]:
    """The data files of a folder and of those inside it, in the order of their names, or those of one split.

    Raises:
        InputError: there is none, or there are several splits and none is named.

    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name.lower().endswith(suffixes)
        and path.name not in ABOUT_THE_DATA
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise InputError(f"{folder}: is a folder without a data file, expected files in {', '.join(suffixes)}")
    splits = {path: split_of(path.relative_to(folder)) for path in files}
    found = sorted({one or "no split" for one in splits.values()})
    if split is None and len(found) > 1:
        raise InputError(
            f"{folder}: is a folder with files of {', '.join(found)}: name one split, as {folder}@{found[-1]}"
        )
    if split is not None and split not in found:
        there = "its files name no split" if found == ["no split"] else f"there are {', '.join(found)}"
        raise InputError(f"{folder}: is a folder without a split {split!r}, {there}")
    return [path for path in files if split in (None, splits[path])]


def split_of(path: Path) -> str | None:
    """The split that the name of a file, or of a folder on the way to it, says.

    >>> split_of(Path("data/train-00000-of-00002.parquet")), split_of(Path("dev/a.jsonl")), split_of(Path("chats.csv"))
    ('train', 'validation', None)
    """
    words = [word for part in path.parts for word in re.split(r"[^a-z]+", part.lower())]
    return next((split for word in words for split, names in SPLIT_NAMES.items() if word in names), None)
