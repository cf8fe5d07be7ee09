"""What a disk or a hand did to a finished folder is found before the folder is used, in one line that names the file.

Checkpoints, best weights and caches have their own tests beside this one; here is whatever a command leaves at its end.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from configs import InputError
from configs import manifest as manifests
from configs.manifest import MANIFEST, ManifestSettings, check_manifest, seal, sealed_folder
from tests.finetune.entry_runs import run_here
from tests.reliability.finished_folders import KINDS, Kind, make_folders
from tests.said_lines import without_progress

SHARED = ("README.md", ".html")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    make_folders(folder)
    return folder


def _files(folder: Path) -> list[Path]:
    """What a model is read from, manifests included."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(SHARED))


@contextmanager
def _put_back(path: Path) -> Iterator[None]:
    before = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(before)


def _refused(kind: Kind, place: Path) -> str:
    """The line in which reading refuses the folder; any other exception is a traceback, and none an acceptance."""
    with pytest.raises(InputError) as refused:
        kind.read(place)
    assert "\n" not in str(refused.value)
    assert not (place / "new").exists()
    return str(refused.value)


def _flip(path: Path, drawn: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    path.write_bytes(content)


def _flip_bits(kind: Kind, place: Path, times: int) -> None:
    drawn = random.Random(0)
    files = _files(place / kind.folder)
    sizes = [path.stat().st_size for path in files]
    for number in range(times):
        # Every file is hit, small ones too; beyond that each byte is as likely as another.
        path = files[number] if number < len(files) else drawn.choices(files, sizes)[0]
        with _put_back(path):
            _flip(path, drawn)
            said = _refused(kind, place)
            assert str(path.parent) in said, f"{path}: {said}"


@pytest.mark.parametrize("name", KINDS)
def test_one_flipped_bit_anywhere_is_found_before_use(name: str, place: Path):
    _flip_bits(KINDS[name], place, 20)


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_200_flipped_bits_are_found_before_use(name: str, place: Path):
    _flip_bits(KINDS[name], place, 200)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_emptied_or_lost_is_found_before_use_and_named(name: str, place: Path):
    kind = KINDS[name]
    for path in _files(place / kind.folder):
        for size in {path.stat().st_size - 1, path.stat().st_size // 2, 0}:
            with _put_back(path):
                path.write_bytes(path.read_bytes()[:size])
                assert str(path) in _refused(kind, place)
        with _put_back(path):
            path.unlink()
            assert path.name in _refused(kind, place)


@pytest.mark.parametrize("name", KINDS)
def test_its_command_says_so_in_one_line_with_status_2_and_writes_nothing(name: str, place: Path, capfd):
    kind = KINDS[name]
    path = max(_files(place / kind.folder), key=lambda path: path.stat().st_size)
    with _put_back(path):
        _flip(path, random.Random(1))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            kind.command(place)
    said = without_progress(capfd.readouterr().err)
    assert ended.value.code == 2 and str(path) in said and said.count("\n") == 1
    assert "sha256" in said and "get or make the folder anew" in said
    assert not (place / "new").exists()


@pytest.mark.parametrize("name", KINDS)
def test_what_is_whole_is_read_whatever_people_wrote_into_its_card(name: str, place: Path):
    kind = KINDS[name]
    card = place / kind.folder / "README.md"
    before = card.read_bytes() if card.exists() else None
    card.write_text("my own words")
    try:
        if not name.endswith("merged") and name != "base of an adapter":  # which write
            kind.read(place)
        else:
            check_manifest(place / kind.folder, anew=True)
    finally:
        card.unlink() if before is None else card.write_bytes(before)


def test_a_file_that_a_library_would_read_too_is_found(place: Path):
    path = place / "full/final/model-00001-of-00002.safetensors"
    path.write_bytes(b"more")
    try:
        assert f"{path}: was not there when the folder was saved" in _refused(KINDS["fully tuned"], place)
    finally:
        path.unlink()


def test_a_change_on_purpose_is_accepted_by_a_command(tmp_path: Path, capsys):
    with sealed_folder(tmp_path / "model") as folder:
        (folder / "config.json").write_text("{}")
    (tmp_path / "model/config.json").write_text('{"ours": 1}')
    with pytest.raises(InputError, match=f"python -m configs.manifest --folder {tmp_path / 'model'}"):
        check_manifest(tmp_path / "model")
    run_here(manifests.main, ManifestSettings, folder=tmp_path / "model")
    check_manifest(tmp_path / "model", anew=True)
    with pytest.raises(SystemExit):
        run_here(manifests.main, ManifestSettings, folder=tmp_path)
    assert "holds no manifest.json" in capsys.readouterr().err and not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize("content", ['{"name": "an app", "version": 3}', "{}", "[1, 2]"])
def test_the_manifest_of_another_tool_says_nothing(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / MANIFEST).write_text(content)
    check_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../other.json", "/etc/passwd", "", "a/b"])
def test_a_manifest_names_files_of_its_folder_alone(tmp_path: Path, name: str):
    (tmp_path / MANIFEST).write_text(f'{{"{name}": {{"sha256": "00", "bytes": 2}}}}')
    with pytest.raises(InputError, match=r"manifest\.json: is damaged"):
        check_manifest(tmp_path)


def test_a_whole_folder_is_hashed_once_until_a_file_changes_and_anew_where_it_is_a_proof(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hashed: list[str] = []
    usual = manifests.file_sha256

    def hash_and_note(path: Path) -> str:
        hashed.append(path.name)
        return usual(path)

    monkeypatch.setattr(manifests, "file_sha256", hash_and_note)
    monkeypatch.setattr(manifests, "SECONDS_OF_DOUBT", 0.05)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    seal(tmp_path / "model")
    hashed.clear()
    check_manifest(tmp_path / "model")  # too fresh to be remembered: its time of change may not tell the next one
    time.sleep(0.1)
    for expected in (2, 2):
        check_manifest(tmp_path / "model")
        assert len(hashed) == expected
    check_manifest(tmp_path / "model", anew=True)
    assert len(hashed) == 3
    (tmp_path / "model/config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json: is not the file that was saved"):
        check_manifest(tmp_path / "model")
