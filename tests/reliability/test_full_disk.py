"""A disk that is full at any place of a command: what was there is as it was, nothing is half there, a line says so."""

import re
import shutil
import sys
from functools import partial
from pathlib import Path
from unittest.mock import ANY

import pytest

from configs import InputError
from configs.disk_space import check_space, free_bytes
from configs.errors import FullDisk
from configs.manifest import MANIFEST, check_manifest
from configs.whole_folder import whole_folder, write_whole
from scratch_models.checkpoints.checkpoint import find_damage, list_checkpoints
from tests.reliability.full_disks import (
    COMMANDS,
    TRAINED,
    Ended,
    grow_disk,
    in_child,
    run_sft,
    small_disk,
    write_what_commands_read,
)

SAID = re.compile(
    r"needs (more than )?[\d,]+ bytes, [\d,]+ are free|more bytes are needed than the [\d,]+ that are free"
)
FEW, ALL = (2_000, 40_000, 150_000), tuple(int(100 * 1.45**power) for power in range(27))
"""Bytes that a file may have; all of them reach from a part of run.json to more than the largest file."""
OTHERS = [name for name in COMMANDS if name not in ("merge", "extend")]
DISKS = tuple(int(4_096 * 1.9**power) for power in range(10))
"""Bytes of a file system: from one page to more than a whole run."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_what_commands_read(folder)
    return folder


def _check_said(ended: Ended) -> None:
    assert ended.status == 2 and "Traceback" not in ended.said, ended.said
    assert SAID.search(ended.said.splitlines()[-1]), ended.said


def _write_new_folder(name: str, place: Path, new: Path, most_bytes: int | None = None) -> bool:
    """Whether the command could write at all."""
    ended = in_child(partial(COMMANDS[name], place, new), most_bytes)
    if ended.status == 0:
        check_manifest(new, anew=True)
        return True
    _check_said(ended)
    assert not list(new.parent.iterdir()), "something half is left"
    return False


def _train(kind: str, place: Path, run: Path, most_bytes: int | None = None) -> bool:
    """Whether the run came to its end; else what it left is whole."""
    ended = in_child(partial(TRAINED[kind], place, run), most_bytes)
    if ended.status == 0:
        return True
    _check_said(ended)
    assert not list(run.rglob("*.partial")) and not list(run.parent.glob(".*"))
    assert all(find_damage(checkpoint) is None for checkpoint in list_checkpoints(run / "checkpoints"))
    return False


def _go_on(kind: str, place: Path, run: Path) -> None:
    if (run / "run.json").is_file():
        assert in_child(partial(TRAINED[kind], place, run, resume=True)) == (0, ANY)
        manifests = list((run / "final").rglob(MANIFEST))
        assert manifests
        for manifest in manifests:
            check_manifest(manifest.parent, anew=True)


@pytest.mark.parametrize("name", ["merge", "extend", *(pytest.param(one, marks=pytest.mark.long) for one in OTHERS)])
def test_a_command_that_meets_a_full_disk_leaves_nothing_and_says_what_it_needs(name: str, place: Path, tmp_path: Path):
    assert not _write_new_folder(name, place, tmp_path / "new", 200)
    _write_new_folder(name, place, tmp_path / "larger", FEW[1])


@pytest.mark.parametrize(
    ("kind", "most_bytes"), [("sft", FEW[0]), ("sft", FEW[2]), pytest.param("dpo", 20_000, marks=pytest.mark.long)]
)
def test_a_run_that_meets_a_full_disk_says_so_and_goes_on_once_there_is_room(
    kind: str, most_bytes: int, place: Path, tmp_path: Path
):
    if not _train(kind, place, tmp_path / "run", most_bytes):
        _go_on(kind, place, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("most_bytes", ALL)
def test_every_command_at_27_sizes(most_bytes: int, place: Path, tmp_path: Path):
    for kind in TRAINED:
        if not _train(kind, place, tmp_path / "run", most_bytes):
            _go_on(kind, place, tmp_path / "run")
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    for name in COMMANDS:
        _write_new_folder(name, place, tmp_path / "new", most_bytes)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)


def _on_small_disk(kind: str, size: int, place: Path, disk: Path) -> None:
    try:
        with small_disk(disk, size):
            if kind in COMMANDS:
                _write_new_folder(kind, place, disk / "new")
            elif not _train(kind, place, disk / "run"):
                grow_disk(disk)
                _go_on(kind, place, disk / "run")
    except PermissionError as error:
        pytest.skip(str(error))


def test_a_run_on_a_small_file_system_says_that_it_is_full_and_goes_on(place: Path, tmp_path: Path):
    _on_small_disk("from scratch", DISKS[4], place, tmp_path / "disk")


@pytest.mark.long
@pytest.mark.parametrize("size", DISKS)
@pytest.mark.parametrize("kind", [*TRAINED, *COMMANDS])
def test_every_command_on_file_systems_of_ten_sizes(kind: str, size: int, place: Path, tmp_path: Path):
    _on_small_disk(kind, size, place, tmp_path / "disk")


def test_a_run_that_the_disk_has_no_room_for_is_refused_at_its_start(place: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("configs.disk_space.free_bytes", lambda _: 1_234)
    with pytest.raises(SystemExit) as ended:
        run_sft(place, tmp_path / "run")
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

    ended = in_child(write, 1_000)
    assert ended.status == 2 and "report.json: cannot be written (File too large): needs" in ended.said
    assert "5,000 bytes" in ended.said
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "old"
