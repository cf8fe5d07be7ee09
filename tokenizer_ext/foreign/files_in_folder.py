"""The files of a foreign folder: that each is a file of that folder, and which of them hold weights.

Only safetensors and JSON are opened. Pickles that lie beside safetensors are not looked at.
"""

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from configs import InputError, MissingInput
from tokenizer_ext.foreign.json_in_folder import GET_ANEW, read_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".npz", ".npy", ".joblib")
OPENED = (".json", ".safetensors", ".jinja", ".txt", ".model", ".tiktoken")
"""What a loader of a model or tokenizer opens by itself."""
MOST_SHARDS = 10_000


def check_files(folder: Path) -> None:
    """Refuses a folder with a file, of those that a loader opens, that is a link out of it or no regular file.

    Raises:
        InputError: there is one; the message names it.

    """
    inside = _places_of(folder)
    for path in sorted(folder.iterdir()):
        if path.suffix not in OPENED:
            continue
        if path.is_symlink() and not _is_within(path, inside):
            raise InputError(
                f"{path}: is a link to {path.readlink()}, out of its folder, expected a file: copy what it points at"
            )
        if path.exists() and not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: is no regular file, expected one: {GET_ANEW}")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that hold the weights of a model: one file, or the shards that an index names.

    Raises:
        InputError: there are pickles in their place, or the index names what is no safetensors of this folder.
        MissingInput: there is none, or one that the index names is not there.

    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        return _shards(folder, read_object(folder / INDEX))
    pickles = sorted(path.name for path in folder.iterdir() if path.name.removesuffix(".index.json").endswith(PICKLES))
    if pickles:
        raise InputError(
            f"{folder / pickles[0]}: a pickle, which can run code, is not opened, expected {WEIGHTS}: where you trust "
            f"it, convert it with AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained('NEW')"
        )
    raise MissingInput(f"{folder}: holds no {WEIGHTS}, expected the weights of a model there: {GET_ANEW}")


def _shards(folder: Path, index: dict[str, Any]) -> list[Path]:
    where = folder / INDEX
    named = index.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise InputError(
            f"{where}: has no weight_map of tensors to files, expected what transformers writes: {GET_ANEW}"
        )
    names = sorted(set(named.values()))
    if len(names) > MOST_SHARDS:
        raise InputError(f"{where}: names {len(names):,} files, expected at most {MOST_SHARDS:,}: {GET_ANEW}")
    for name in names:
        _check_shard(folder, name)
    return [folder / name for name in names]


def _check_shard(folder: Path, name: str) -> None:
    where, path = folder / INDEX, Path(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not _is_within(folder / path, _places_of(folder)):
        raise InputError(
            f"{where}: names {name!r}, which is outside of its folder, expected shards beside it: {GET_ANEW}"
        )
    if path.suffix != ".safetensors":
        raise InputError(f"{where}: names {name!r}, expected safetensors alone, for nothing else is opened: {GET_ANEW}")
    if not (folder / path).is_file():
        raise MissingInput(f"{where}: names {name!r}, which is not there, expected every shard beside it: {GET_ANEW}")


def _places_of(folder: Path) -> list[Path]:
    """Where the files of a folder may lie: in it, and of the Hub's cache in the store of the same repository."""
    real = folder.resolve()
    repository = real.parent.parent
    in_cache = real.parent.name == "snapshots" and repository.name.startswith("models--")
    return [real, repository / "blobs"] if in_cache else [real]


def _is_within(path: Path, places: Iterable[Path]) -> bool:
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        return False
    return any(real.is_relative_to(place) for place in places)
