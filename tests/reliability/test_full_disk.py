"""A disk that is full at any place of a command: what was there is as it was, nothing is half there, one line says so.

A limit on the size of a file stands in for the disk: it needs no rights, and counts for Python, Rust and C alike.
"""

import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from configs import InputError
from configs.disk_space import check_space, free_bytes
from configs.errors import FullDisk
from configs.manifest import check_manifest
from configs.whole_folder import whole_folder, write_whole
from finetune.merge import MergeSettings
from finetune.merge import main as merge
from finetune.sft import main as sft
from finetune.supervised.settings import SftSettings
from scratch_models.loop.checkpoint import find_damage, list_checkpoints
from tests.finetune.entry_runs import run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.reliability.finished_folders import SHORT, TEXT
from tokenizer_ext.delta import DeltaSettings
from tokenizer_ext.delta import main as delta
from tokenizer_ext.extend import ExtendSettings
from tokenizer_ext.extend import main as extend
from tokenizer_ext.trim import TrimSettings
from tokenizer_ext.trim import main as trim

SAID = re.compile(
    r"needs (more than )?[\d,]+ bytes, [\d,]+ are free|more bytes are needed than the [\d,]+ that are free"
)
FEW, ALL = (2_000, 40_000, 150_000), tuple(int(100 * 1.45**power) for power in range(27))
"""Bytes that a file may have; all of them reach from a part of run.json to more than the largest file."""


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    said: str
    """On stderr."""


def _with_limit(most_bytes: int, command: Callable[[], Any]) -> Ended:
    """The command in a child of this process, where no file may be larger."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(told, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            command()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(told)
    with os.fdopen(heard, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    save_tiny_base(folder / "base", initializer_range=0.2)
    write_questions(folder / "data.jsonl", 30)
    (folder / "text.txt").write_text(TEXT)
    _train(folder, folder / "run")
    text = {"corpus": folder / "text.txt"}
    run_here(extend, ExtendSettings, base=folder / "base", new_tokens=8, output_dir=folder / "extended", **text)
    return folder


def _train(place: Path, run: Path, **settings: Any) -> None:
    short = {**SHORT, "max_steps": 3, "checkpoint_steps": 1, "new_tokens": 5}
    run_here(sft, SftSettings, base=place / "base", data=place / "data.jsonl", output_dir=run, **short, **settings)


COMMANDS: dict[str, Callable[[Path, Path], None]] = {
    "merge": lambda place, new: run_here(merge, MergeSettings, tuned=place / "run", output_dir=new),
    "extend": lambda place, new: run_here(
        extend, ExtendSettings, base=place / "base", corpus=place / "text.txt", new_tokens=8, output_dir=new
    ),
    "delta": lambda place, new: run_here(delta, DeltaSettings, extended=place / "extended", output_dir=new),
    "trim": lambda place, new: run_here(
        trim, TrimSettings, model=place / "base", corpus=place / "text.txt", output_dir=new
    ),
}


def _check_said(ended: Ended) -> None:
    assert ended.status == 2 and "Traceback" not in ended.said, ended.said
    assert SAID.search(ended.said.splitlines()[-1]), ended.said


def _write_new_folder(name: str, most_bytes: int, place: Path, tmp_path: Path) -> bool:
    """Whether the command could write at all."""
    new = tmp_path / f"new-{most_bytes}"
    ended = _with_limit(most_bytes, partial(COMMANDS[name], place, new))
    if ended.status == 0:
        check_manifest(new, anew=True)
        return True
    _check_said(ended)
    assert not list(tmp_path.iterdir()), "something half is left"
    return False


def _train_and_go_on(most_bytes: int, place: Path, run: Path) -> None:
    ended = _with_limit(most_bytes, partial(_train, place, run))
    if ended.status == 0:
        return
    _check_said(ended)
    assert not list(run.rglob("*.partial")) and not list(run.parent.glob(".*"))
    checkpoints = list_checkpoints(run / "checkpoints")
    assert all(find_damage(checkpoint) is None for checkpoint in checkpoints)
    if (run / "run.json").is_file():
        _train(place, run, resume=True)
        for folder in (run / "final/base", run / "final/adapter"):
            check_manifest(folder, anew=True)
    shutil.rmtree(run, ignore_errors=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_meets_a_full_disk_leaves_nothing_and_says_what_it_needs(name: str, place: Path, tmp_path: Path):
    assert not _write_new_folder(name, 200, place, tmp_path)
    _write_new_folder(name, FEW[1], place, tmp_path)


@pytest.mark.parametrize("most_bytes", FEW)
def test_a_run_that_meets_a_full_disk_says_so_and_goes_on_once_there_is_room(
    most_bytes: int, place: Path, tmp_path: Path
):
    _train_and_go_on(most_bytes, place, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("most_bytes", ALL)
def test_every_command_at_27_sizes(most_bytes: int, place: Path, tmp_path: Path):
    _train_and_go_on(most_bytes, place, tmp_path / "run")
    for name in COMMANDS:
        _write_new_folder(name, most_bytes, place, tmp_path)
        for made in tmp_path.iterdir():
            shutil.rmtree(made)


def test_a_run_that_the_disk_has_no_room_for_is_refused_at_its_start(place: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("configs.disk_space.free_bytes", lambda _: 1_234)
    with pytest.raises(SystemExit) as ended:
        _train(place, tmp_path / "run")
    said = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2 and re.search(r"run: needs [\d,]+ bytes, 1,234 are free: make room", said)
    assert not (tmp_path / "run").exists()


def test_what_is_known_to_be_larger_than_the_disk_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(FullDisk, match=r"needs [\d,]+ bytes, [\d,]+ are free"):
        check_space(tmp_path / "new" / "deep", free_bytes(tmp_path) * 2)
    with (
        pytest.raises(InputError, match=r"model: needs [\d,]+ bytes, [\d,]+ are free"),
        whole_folder(tmp_path / "model", needed=free_bytes(tmp_path) * 2),
    ):
        raise AssertionError("it was begun")
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_fit_is_said_with_its_bytes_and_the_old_one_stays(tmp_path: Path):
    write_whole(tmp_path / "report.json", "old")

    def write() -> None:
        try:
            write_whole(tmp_path / "report.json", "n" * 5_000)
        except FullDisk as error:
            print(error, file=sys.stderr)
            sys.exit(2)

    ended = _with_limit(1_000, write)
    assert ended.status == 2 and "report.json: cannot be written (File too large): needs" in ended.said
    assert "5,000 bytes" in ended.said
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "old"
