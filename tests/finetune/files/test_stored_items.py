"""Items that do not fit into memory lie in a file, and what goes wrong with it is one line."""

import resource
import signal

import pytest

from configs import InputError
from finetune.files import stored_items
from finetune.files.stored_items import Codec, StoredItems

TEXT = Codec(str.encode, bytes.decode)


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(stored_items, "BYTES_IN_MEMORY", 10_000)


@pytest.fixture
def little_disk():
    """No file of this process may be larger than 50,000 bytes: more is an error, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_few_items_need_no_cache_folder_and_many_say_that_there_is_none(tmp_path, monkeypatch, little_memory):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    stored = StoredItems(TEXT)
    stored.append("x" * 9000)
    assert list(stored) == ["x" * 9000]
    with pytest.raises(InputError, match=r"file/graft: Not a directory after 0 MiB; what does not fit into memory"):
        stored.append("y" * 9000)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [3, 100, 4000, 70_000])
def test_a_full_disk_is_one_line_wherever_it_is_noticed(tmp_path, monkeypatch, little_memory, little_disk, size):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"graft: File too large after 0 MiB; .* make room, or set XDG_CACHE_HOME"):
        stored = StoredItems(TEXT)
        while len(stored) * size < 52_000:  # what is written last may stay in a buffer until it is read
            stored.append("x" * size)
        list(stored)
