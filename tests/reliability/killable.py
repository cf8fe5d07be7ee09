"""Every command that writes, as one that is killed: how it begins, how it goes on, and what it must come to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from finetune.adapter_set import AdapterSetSettings
from finetune.adapter_set import main as gather
from finetune.merge import MergeSettings
from finetune.merge import main as merge
from scratch_models.checkpoints.checkpoint import list_checkpoints
from tests.finetune.entry_runs import run_here
from tests.reliability.folder_states import state_of
from tests.reliability.interrupted import ended_at
from tests.reliability.killed_runs import judge
from tests.reliability.small_runs import ALL_RUNS
from tokenizer_ext.delta import DeltaSettings
from tokenizer_ext.delta import main as delta
from tokenizer_ext.extend import ExtendSettings
from tokenizer_ext.extend import main as extend
from tokenizer_ext.trim import TrimSettings
from tokenizer_ext.trim import main as trim

RUN, NEW = "run", "new"
FROM_THE_FIRST_STEP = "starts from the first step"


@dataclass(frozen=True)
class Killable:
    """A command whose output lies in a folder `live` of its own, beside its inputs."""

    start: Callable[[Path, Path], Any]
    """The command, given inputs and `live`."""
    go_on: Callable[[Path, Path], Any]
    """What a user does after a kill."""
    judge: Callable[[Path, Path, Path, int, Path], str]
    """What that came to, given `live`, what the unbroken command left there, what the kill left, status and log."""
    prepare: Callable[[Path, Path], Any] = lambda _inputs, _live: None
    """What was done before."""


def _go_on(kind: str, inputs: Path, live: Path) -> None:
    again = {"resume": True} if (live / RUN / "run.json").is_file() else {}
    ALL_RUNS[kind](inputs, live / RUN, **again)


def _judge_run(live: Path, whole: Path, left: Path, status: int, log: Path) -> str:
    """As `judge`; and of what the kill left, the newest checkpoint must be where the run went on."""
    said = log.read_text()
    if list_checkpoints(left / RUN / "checkpoints") and ("passed over" in said or FROM_THE_FIRST_STEP in said):
        return "steps are lost that a checkpoint held"
    return judge(live / RUN, whole / RUN, status, log)


def _run(kind: str) -> Killable:
    return Killable(lambda inputs, live: ALL_RUNS[kind](inputs, live / RUN), partial(_go_on, kind), _judge_run)


def _stop_after_six_steps(kind: str, inputs: Path, live: Path) -> None:
    with ended_at("after a step", 6), pytest.raises(SystemExit) as ended:
        ALL_RUNS[kind](inputs, live / RUN)
    assert ended.value.code == 0


def _resumed(kind: str) -> Killable:
    """A run that was asked to end, and is killed when it goes on."""
    go_on = partial(_go_on, kind)
    return Killable(go_on, go_on, _judge_run, prepare=partial(_stop_after_six_steps, kind))


def _judge_folder(live: Path, whole: Path, left: Path, status: int, log: Path) -> str:
    """Absent or whole after the kill; made by the same command then, which refuses one that is whole."""
    expected, said = state_of(whole / NEW), log.read_text()
    was_there = (left / NEW).exists()
    if was_there and state_of(left / NEW) != expected:
        return "half a folder"
    if "Traceback" in said or status != (2 if was_there else 0):
        return f"status {status}: {said[-300:]}"
    if was_there and not said.splitlines()[-1].startswith(f"output_dir {live / NEW}: is not an empty folder"):
        return f"refused without a word on what is there: {said[-300:]}"
    if state_of(live / NEW) != expected:
        return "another folder"
    leftovers = [path.name for path in live.iterdir() if path.name not in (NEW, "cache")]
    if leftovers:
        return f"leftovers: {leftovers}"
    return "whole, and refused a second time" if was_there else "equal"


def _command(work: Callable[[Path, Path], Any]) -> Killable:
    start = lambda inputs, live: work(inputs, live / NEW)  # noqa: E731
    return Killable(start, start, _judge_folder)


def _extend(inputs: Path, new: Path) -> None:
    run_here(extend, ExtendSettings, base=inputs / "base", corpus=inputs / "words.txt", new_tokens=8, output_dir=new)


def _gather(inputs: Path, new: Path) -> None:
    tuned = {"tuned.first": inputs / "tuned", "tuned.second": inputs / "tuned"}
    run_here(gather, AdapterSetSettings, output_dir=new, **tuned)


COMMANDS: dict[str, Callable[[Path, Path], Any]] = {
    "extend": _extend,
    "trim": lambda inputs, new: run_here(
        trim, TrimSettings, model=inputs / "base", corpus=inputs / "words.txt", output_dir=new
    ),
    "delta save": lambda inputs, new: run_here(delta, DeltaSettings, extended=inputs / "extended", output_dir=new),
    "delta apply": lambda inputs, new: run_here(
        delta, DeltaSettings, base=inputs / "base", delta=inputs / "delta", output_dir=new
    ),
    "merge": lambda inputs, new: run_here(merge, MergeSettings, tuned=inputs / "tuned", output_dir=new),
    "adapter set": _gather,
}
KILLABLE = {
    **{kind: _run(kind) for kind in ALL_RUNS},
    **{f"{kind}, resumed": _resumed(kind) for kind in ALL_RUNS},
    **{name: _command(work) for name, work in COMMANDS.items()},
}


def write_inputs_of_commands(folder: Path) -> None:
    """A finished run and a delta, beside what `small_runs` writes."""
    ALL_RUNS["sft"](folder, folder / "tuned", merge="false", max_steps=2, evaluation_steps=2)
    run_here(delta, DeltaSettings, extended=folder / "extended", output_dir=folder / "delta")
