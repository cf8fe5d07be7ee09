"""What is written is there whole or not at all, however its writer ends."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from configs import InputError
from configs.whole_folder import check_new_folder, whole_folder, write_whole
from tests.killed_writes import kill_at_every_change

NEW, OLD = {"a": "new a", "sub/b": "new b"}, {"a": "old a", "old/c": "c"}


def _write(target: Path, files: dict[str, str], **options: bool) -> None:
    with whole_folder(target, **options) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)


def _read(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_new_folder_takes_the_place_of_the_old_one_and_nothing_is_beside_it(tmp_path: Path):
    for files in (OLD, NEW):
        _write(tmp_path / "made" / "folder", files)
        assert _read(tmp_path / "made" / "folder") == files
        assert [path.name for path in (tmp_path / "made").iterdir()] == ["folder"]


@pytest.mark.parametrize("was_there", [True, False])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_exception_the_old_folder_stays_as_it_was(tmp_path: Path, error: type[BaseException], was_there: bool):
    if was_there:
        _write(tmp_path / "folder", OLD)
    with pytest.raises(error), whole_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == (["folder"] if was_there else [])
    assert not was_there or _read(tmp_path / "folder") == OLD


def test_an_old_folder_that_was_moved_away_is_put_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def rename(source: Path, place: Path) -> None:
        if str(source).endswith(".partial") and not Path(place).exists():
            raise KeyboardInterrupt
        usual(source, place)

    _write(tmp_path / "folder", OLD)
    usual = os.rename
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "folder", NEW)
    assert _read(tmp_path / "folder") == OLD and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "before", [pytest.param(None, marks=pytest.mark.long), pytest.param({}, marks=pytest.mark.long), OLD]
)
def test_a_kill_anywhere_leaves_the_old_the_new_or_none_and_the_next_write_clears_what_it_left(
    tmp_path: Path, before: dict[str, str] | None
):
    target = tmp_path / "folder"

    def put_back() -> None:
        shutil.rmtree(target, ignore_errors=True)
        if before is not None:
            _write(target, before)

    put_back()
    seen = set()
    for _ in kill_at_every_change(lambda: _write(target, NEW), tmp_path):
        seen.add(found := str(_read(target)) if target.exists() else "none")
        assert found in (str(before), str(NEW), "none")
        assert all(path.name.startswith(".folder.") for path in tmp_path.iterdir() if path != target)
        _write(target, NEW)
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
        put_back()
    assert _read(target) == NEW and seen - {"none"}


def test_those_who_write_the_same_folder_at_once_do_not_disturb_each_other(tmp_path: Path):
    versions = [{"a": f"{number}", "b": f"{number}"} for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            list(threads.map(lambda files: _write(tmp_path / "folder", files, shared=True), versions))
            assert _read(tmp_path / "folder") in versions
            assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["folder", ".folder.partial", ".folder.replaced"])
@pytest.mark.parametrize("leads_to", ["file", "folder", "nothing"])
def test_a_link_in_the_place_of_a_folder_is_replaced_and_what_it_leads_to_untouched(
    tmp_path: Path, name: str, leads_to: str
):
    (there := tmp_path / "outside").mkdir()
    if leads_to == "file":
        (there / "theirs").write_text("theirs")
    elif leads_to == "folder":
        _write(there / "theirs", OLD)
    before = _read(there)
    (run := tmp_path / "run").mkdir()
    (run / name).symlink_to(there / "theirs")
    _write(run / "folder", NEW)
    assert _read(run / "folder") == NEW and not (run / "folder").is_symlink()
    assert [path.name for path in run.iterdir()] == ["folder"] and _read(there) == before


@pytest.mark.parametrize("name", ["report.json", ".report.json.partial"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_what_it_leads_to_untouched(tmp_path: Path, name: str):
    (tmp_path / "theirs").write_text("theirs")
    (run := tmp_path / "run").mkdir()
    (run / name).symlink_to(tmp_path / "theirs")
    write_whole(run / "report.json", "ours")
    assert (run / "report.json").read_text() == "ours" and not (run / "report.json").is_symlink()
    assert [path.name for path in run.iterdir()] == ["report.json"] and (tmp_path / "theirs").read_text() == "theirs"


def test_a_folder_that_leads_to_another_disk_may_hold_what_is_written(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    _write(tmp_path / "link" / "folder", NEW)
    assert _read(tmp_path / "disk" / "folder") == NEW and (tmp_path / "link").is_symlink()
    with pytest.raises(InputError, match=f"link: is a link, .* name {tmp_path / 'disk'}"):
        check_new_folder(tmp_path / "link")


def test_a_kill_anywhere_leaves_the_old_file_or_the_new_one(tmp_path: Path):
    target = tmp_path / "file.json"
    write_whole(target, "old")
    seen = []
    for _ in kill_at_every_change(lambda: write_whole(target, "new"), tmp_path):
        seen.append(target.read_text())
        write_whole(target, b"old")
        assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
    assert target.read_text() == "new" and set(seen) <= {"old", "new"}
