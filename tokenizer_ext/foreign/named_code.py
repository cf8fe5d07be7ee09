"""Code that the files of a foreign folder name: none of it is run, and what cannot be opened without it is refused."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from configs import InputError
from tokenizer_ext.foreign.json_in_folder import read_object

OWN_IMPLEMENTATIONS = {
    *("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"),
    *("paged|eager", "paged|sdpa", "grouped_mm", "batched_mm", "None", ""),
}
"""Ways to compute attention or experts that transformers brings itself; any other is code on the Hub."""
CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json", "processor_config.json")
WITHOUT = "take a model that transformers opens by itself"


def check_named_code(folder: Path) -> None:
    """Refuses a folder that needs or names code beyond transformers.

    A model that transformers knows by its type may name code of its own (`auto_map`), as Phi-3 and DeepSeek-V3 do: it
    is never opened, and `forget_named_code` keeps its name from what is saved.

    Raises:
        InputError: it does; the message names file and field.

    """
    if (folder / "custom_generate").exists():
        raise InputError(f"{folder / 'custom_generate'}: custom code is not run, expected none: remove it or {WITHOUT}")
    for name in CONFIGS:
        path = folder / name
        fields = read_object(path)
        for field, value in _every_field(fields):
            _check_field(path, field, value)
        kind = fields.get("model_type")
        if name == "config.json" and "auto_map" in fields and kind not in CONFIG_MAPPING_NAMES:
            raise InputError(
                f"{path}: contains custom code (auto_map) for the model_type {kind!r}, which transformers does not "
                f"know, and no code of a model is run: {WITHOUT}"
            )


def forget_named_code(fields: dict[str, Any]) -> None:
    """Takes out of a config, or of what a tokenizer was made with, the name of code that was not run."""
    fields.pop("auto_map", None)


def _check_field(path: Path, field: str, value: Any) -> None:
    implementations = value.values() if isinstance(value, Mapping) else [value]
    if field.endswith("_implementation") and not OWN_IMPLEMENTATIONS.issuperset(map(str, implementations)):
        raise InputError(
            f"{path}: {field} is {value!r}, code on the Hub, which is not run: take {field} out of the file"
        )
    if field in ("custom_generate", "kernel_config", "use_kernels") and value:
        raise InputError(f"{path}: {field} names code, which is not run: take {field} out of the file")
    if field == "transformers_weights" and value:
        raise InputError(f"{path}: {field} names {value!r} for the weights, expected model.safetensors: take it out")


def _every_field(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of an object and of the objects in it."""
    waiting = [fields]
    while waiting:
        for name, value in waiting.pop().items():
            yield name, value
            if isinstance(value, Mapping):
                waiting.append(value)
