"""Text is read as it stands in a file, and Tiny Shakespeare is the one that is meant."""

import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import InputError, MissingInput
from scratch_models.corpus import text_files
from scratch_models.corpus.text_files import read_text, tiny_shakespeare
from tests.house.repository import ROOT

TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"


def test_text_is_read_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("a\r\nb\ré".encode())
    assert read_text(path) == "a\r\nb\ré"


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 noir")
    expected = {
        "missing.txt": "no such file",
        "empty.txt": "is empty",
        ".": "is a folder",
        "latin.txt": "byte 3 is 0xe9",
    }
    for name, found in expected.items():
        with pytest.raises(InputError, match=found) as caught:
            read_text(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, MissingInput) == (name == "missing.txt")


@pytest.fixture
def served_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind a server of this machine that stands where the download does."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(text_files, "TINY_SHAKESPEARE_URL", f"http://127.0.0.1:{server.server_port}/input.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield folder
    server.shutdown()
    server.server_close()


def test_tiny_shakespeare_is_downloaded_once(served_folder: Path) -> None:
    if not TINY_SHAKESPEARE.is_file():
        pytest.skip("needs ../shared/data/tinyshakespeare.txt")
    source = served_folder / "input.txt"
    source.write_bytes(TINY_SHAKESPEARE.read_bytes())
    assert len(tiny_shakespeare()) == 1_115_394
    source.unlink()
    assert len(tiny_shakespeare()) == 1_115_394


def test_a_download_with_another_sha256_is_refused_and_not_kept(served_folder: Path, tmp_path: Path) -> None:
    (served_folder / "input.txt").write_text("To be, or not to be")
    with pytest.raises(InputError, match=r"sha256 is .*, expected 86c4e6aa.*--data PATH"):
        tiny_shakespeare()
    assert not list((tmp_path / "cache").rglob("*"))


def test_without_a_network_the_error_says_how_to_pass_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        monkeypatch.setattr(text_files, "TINY_SHAKESPEARE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/input.txt")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(InputError, match=r"cannot be downloaded .*pass the file as --data PATH"):
            tiny_shakespeare()
