"""The kinds of jobs: which entry each one starts, and what the queue sets in its settings."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import InputError
from configs.entry import check_settings


@dataclass(frozen=True)
class Kind:
    """A kind of job."""

    module: str
    """The entry, as `python -m` takes it."""
    schema_place: str
    """Module and class of its settings, with a colon between."""
    trains: bool = False
    """Whether it goes through `accelerate launch`, saves checkpoints, and can be paused and resumed."""
    result: str = "output_dir"
    """The setting that is the place of what it leaves."""
    result_file: str = ""
    """The file in the run's folder that this setting names; empty where it is the folder itself."""
    result_with: str = ""
    """The setting without which the entry writes no result."""

    @property
    def schema(self) -> type:
        """The class of its settings, imported when it is asked for; nothing heavy comes with it."""
        module, name = self.schema_place.split(":")
        schema: type = getattr(importlib.import_module(module), name)
        return schema

    @property
    def set_by_queue(self) -> tuple[str, ...]:
        """Settings that no caller may give."""
        return (self.result, "resume") if self.trains else (self.result,)

    def plain(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as JSON can hold them.

        Raises:
            InputError: one of them is the queue's to set.

        """
        for name in self.set_by_queue:
            if name in settings:
                raise InputError(f"{name}: is set by the queue, leave it out")
        return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}

    def checked(self, settings: Mapping[str, Any], output_dir: Path) -> dict[str, Any]:
        """The settings with the place of the result, held to what the entry expects.

        Raises:
            InputError: what the entry would refuse.

        """
        started_with = {**settings, **self.place_of_result(output_dir, settings)}
        check_settings(self.schema, **started_with)
        return started_with

    def place_of_result(self, output_dir: Path, settings: Mapping[str, Any]) -> dict[str, str]:
        """The setting that says where the result goes; none where these settings leave no result.

        >>> KINDS["merge"].place_of_result(Path("run"), {"tuned": "runs/sft-1"})
        {'output_dir': 'run'}
        >>> KINDS["compare"].place_of_result(Path("run"), {"prompt": "1+1?"})
        {}
        """
        if self.result_with and settings.get(self.result_with) is None:
            return {}
        return {self.result: str(output_dir / self.result_file)}


KINDS = {
    "sft": Kind("finetune.sft", "finetune.supervised.settings:SftSettings", trains=True),
    "dpo": Kind("finetune.dpo", "finetune.preference.settings:DpoSettings", trains=True),
    "new_rows": Kind("finetune.new_rows", "finetune.rows.settings:NewRowsSettings", trains=True),
    "train": Kind("scratch_models.train", "scratch_models.train_settings:TrainSettings", trains=True),
    "extend": Kind("tokenizer_ext.extend", "tokenizer_ext.extend:ExtendSettings"),
    "merge": Kind("finetune.merge", "finetune.merge:MergeSettings"),
    "compare": Kind(
        "finetune.compare",
        "finetune.compare:CompareSettings",
        result="output",
        result_file="comparison.json",
        result_with="data",
    ),
    "inspect_data": Kind(
        "finetune.inspect_data",
        "finetune.inspect_data:InspectSettings",
        result="output",
        result_file="findings.json",
    ),
    "red_team": Kind("finetune.red_team", "finetune.red_team:RedTeamSettings"),
}


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        InputError: there is none.

    """
    if name not in KINDS:
        raise InputError(f"kind: found {name!r}, expected one of {', '.join(KINDS)}")
    return KINDS[name]
