"""An adapter that somebody else made: its config against its stored weights, before peft opens it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import InputError, MissingInput
from tokenizer_ext.foreign.files_in_folder import check_files
from tokenizer_ext.foreign.json_in_folder import read_object
from tokenizer_ext.foreign.matched_names import check_patterns
from tokenizer_ext.foreign.weight_headers import read_headers

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""What peft calls the files of an adapter."""
PICKLE = "adapter_model.bin"
SMALL = 4096
"""A size up to this costs little, whatever it is the size of."""
NO_SIZES = ("alpha", "seed", "prng_key", "total_step", "tinit", "tfinal", "deltaT")
PATTERNS = ("target_modules", "exclude_modules", "layers_pattern", "target_parameters")
KEYED = ("rank_pattern", "alpha_pattern")


def check_adapter_folder(folder: Path, modules: list[str]) -> None:
    """Refuses an adapter that cannot be opened safely; `modules` are the names of those of its base.

    Raises:
        InputError: it is a pickle, names code, is larger by its config than by its weights, or a pattern runs away.

    """
    check_files(folder)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise _no_weights(folder)
    path = folder / ADAPTER_CONFIG
    fields = read_object(path)
    _check_code(fields, path)
    sides = [side for tensor in read_headers([folder / ADAPTER_WEIGHTS]).values() for side in tensor.shape]
    most = max([SMALL, *sides])
    for field, number in _sizes(fields):
        if number > most:
            raise InputError(
                f"{path}: {field} is {number:,}, and its stored weights have no side above {max(sides, default=0):,}, "
                "expected a config that describes them: get the adapter anew"
            )
    patterns = [fields.get(name) for name in PATTERNS]
    texts = [one for one in patterns if isinstance(one, str)]
    for name in KEYED:
        keys = fields.get(name)
        texts += [rf"(.*\.)?({key})$" for key in keys] if isinstance(keys, Mapping) else []
    check_patterns(texts, modules, path)


def _no_weights(folder: Path) -> InputError:
    if (folder / PICKLE).exists():
        return InputError(
            f"{folder}: holds no {ADAPTER_WEIGHTS}, and {PICKLE} is a pickle, which can run code and is not opened: "
            "where you trust it, load it with peft and call save_pretrained"
        )
    return MissingInput(f"{folder}: holds no {ADAPTER_WEIGHTS}, expected what peft writes")


def _check_code(fields: Mapping[str, Any], path: Path) -> None:
    if fields.get("megatron_config") or fields.get("megatron_core") not in (None, "megatron.core"):
        raise InputError(f"{path}: megatron_core and megatron_config name code, which is not run: take them out")
    mapping = fields.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, Mapping) else None
    if library is not None and str(library).partition(".")[0] not in ("transformers", "peft"):
        raise InputError(f"{path}: auto_mapping names the code of {str(library)!r}, which is not run: take it out")


def _sizes(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of the config that may be a size."""
    for name, value in fields.items():
        field = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _sizes(value, f"{field}.")
        elif isinstance(value, int) and not any(part in field for part in NO_SIZES):
            yield field, value


def rows_in_adapter(adapter: Path, tables: Sequence[str]) -> int | None:
    """The rows of the first of these tables that an adapter's folder holds whole; None where it holds none of them.

    Args:
        adapter: The folder.
        tables: Names of embedding and head in the model under it.

    """
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        return None
    try:
        stored = read_headers([adapter / ADAPTER_WEIGHTS])
    except InputError:
        return None  # said when it is read as a whole
    names = (f"base_model.model.{table}.weight" for table in tables)
    return next((stored[name].shape[0] for name in names if name in stored), None)
