"""Whatever a setting cannot take is one line that names it, with status 2, and nothing is written."""

import dataclasses
import importlib
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.finetune.entry_runs import run_here
from tests.reliability.bad_inputs import ENTRIES, BadInput, bad_inputs, schema_of
from tests.reliability.full_disks import in_child
from tests.reliability.small_runs import write_inputs

FEW = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    for entry in ENTRIES:
        importlib.import_module(entry)
        schema_of(entry)
    return folder


def refused(bad: BadInput, place: Path, new: Path) -> str | None:
    """What was wrong in how a command refused; None where nothing was."""
    schema = schema_of(bad.entry)
    fields = dataclasses.fields(schema)
    names = {field.name for field in fields}
    given = {"base": place / "base", "data": place / "data.jsonl", "corpus": place / "text.txt", "output_dir": new}
    given |= {"model": place / "base"} if "model" in names and bad.entry.startswith("tokenizer_ext") else {}
    if bad.entry == "scratch_models.train":
        given["data"] = place / "text.txt"
    needed = {field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING}
    given |= {name: place / "base" for name in needed - given.keys()}
    settings = {**{name: one for name, one in given.items() if name in names}, bad.field: bad.value}
    ended = in_child(partial(_run, importlib.import_module(bad.entry).main, schema, settings))
    line = (ended.said.splitlines() or [""])[-1]
    if ended.status != 2 or "Traceback" in ended.said or len(line) > 1_000:
        return f"{bad}: status {ended.status}: {ended.said[-600:]}"
    if bad.field.removesuffix("_evil") not in line.replace("-", "_"):
        return f"{bad}: does not name the setting: {line}"
    return f"{bad}: something was written" if new.exists() else None


def _run(main: Callable[[Any], None], schema: type, settings: dict[str, Any]) -> None:
    signal.alarm(60)  # what is accepted may train for long
    run_here(main, schema, **settings)


def _check(chosen: list[BadInput], place: Path, tmp_path: Path) -> None:
    problems = [problem for bad in chosen if (problem := refused(bad, place, tmp_path / "new"))]
    assert not problems, f"{len(problems)} of {len(chosen)}:\n" + "\n".join(problems)


def test_some_bad_values_of_settings_are_refused_in_one_line(place, tmp_path):
    _check(random.Random(0).sample(list(bad_inputs(place)), FEW), place, tmp_path)


def test_a_count_below_1_is_refused_though_the_chosen_model_has_nothing_to_count(place, tmp_path):
    _check([BadInput("scratch_models.train", "table_rows", "-5")], place, tmp_path)


@pytest.mark.long
def test_every_bad_value_of_every_setting_is_refused_in_one_line(place, tmp_path):
    every = list(bad_inputs(place))
    assert len(every) >= 200
    _check(every, place, tmp_path)
