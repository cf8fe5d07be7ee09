"""Values that no setting takes, made for every field of every entry from its type alone."""

import dataclasses
import importlib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ENTRIES = {
    "finetune.sft": "finetune.supervised.settings.SftSettings",
    "finetune.dpo": "finetune.dpo.DpoSettings",
    "finetune.new_rows": "finetune.rows.settings.NewRowsSettings",
    "finetune.pretrain": "finetune.pretraining.settings.PretrainSettings",
    "finetune.merge": "finetune.merge.MergeSettings",
    "finetune.compare": "finetune.compare.CompareSettings",
    "scratch_models.train": "scratch_models.train_settings.TrainSettings",
    "scratch_models.sample": "scratch_models.sample.SampleSettings",
    "tokenizer_ext.extend": "tokenizer_ext.extend.ExtendSettings",
    "tokenizer_ext.trim": "tokenizer_ext.trim.TrimSettings",
    "tokenizer_ext.delta": "tokenizer_ext.delta.DeltaSettings",
}
"""An entry, and where its settings are."""


class BadInput(NamedTuple):
    """A command that must be refused."""

    entry: str
    field: str
    value: str


def schema_of(entry: str) -> type[Any]:
    """The settings of an entry."""
    module, _, name = ENTRIES[entry].rpartition(".")
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found


def bad_inputs(folder: Path) -> Iterator[BadInput]:
    """Every field of every entry with values that its type forbids, and each name spelt wrong."""
    for entry in ENTRIES:
        schema = schema_of(entry)
        kinds = typing.get_type_hints(schema)
        for field in dataclasses.fields(schema):
            yield BadInput(entry, f"{field.name}_evil", "1")
            for value in _values(kinds[field.name], folder):
                yield BadInput(entry, field.name, value)


def _values(kind: Any, folder: Path) -> list[str]:
    parts = set(typing.get_args(kind)) or {kind}
    if typing.get_origin(kind) is typing.Literal:
        return ["evil", "", "null", "1e400"]
    if typing.get_origin(kind) is dict:
        return ["evil", "3", "[1]"]
    if str in parts or any(typing.get_origin(part) or part not in (int, float, bool, type(None)) for part in parts):
        return []
    numbers = ["many", str(folder), "[1, 2]", "{a: 1}", "--1"]
    if float in parts:
        return [*numbers, "nan", "-.inf", "-5"]
    return numbers if bool in parts else [*numbers, "1.5", "nan", "-5"]
