"""A limit on memory that is met at any place of a run: a line says so, what was saved is whole, and it goes on."""

import re
import resource
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from scratch_models.checkpoints.checkpoint import find_damage, list_checkpoints
from tests.reliability.full_disks import Ended, in_child, run_sft, write_what_commands_read

MEGABYTES = (1, 4, 9, 10, 12, 14, 16, 20, 24, 32, 64, 128)
"""That a run may take; a thread takes 8, and the last of them are enough for all."""
SAID = re.compile(r"not to be had|takes more memory than there is")

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set by what Linux tells")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_what_commands_read(folder)
    return folder


def _run_within(megabytes: int, place: Path, run: Path) -> Ended:
    """A run in a child that finds so much memory, and no more."""

    def limited() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28,) * 2)
        taken = []
        with suppress(MemoryError):  # what was freed before the child began can be had without the system, too
            while True:
                taken.append(bytearray(2**20))
        del taken[:megabytes]
        run_sft(place, run)

    return in_child(limited)


def _check(ended: Ended, run: Path) -> None:
    if ended.status != 0:
        assert ended.status == 2 and "Traceback" not in ended.said, ended.said
        last = ended.said.splitlines()[-1]
        assert SAID.search(last) and "--base_bits 8 or 4" in last and "`ulimit -v` allows" in last, last
    assert not list(run.rglob("*.partial")) and not list(run.parent.glob(".*"))
    assert all(find_damage(checkpoint) is None for checkpoint in list_checkpoints(run / "checkpoints"))


@pytest.mark.long
@pytest.mark.parametrize("megabytes", MEGABYTES)
def test_wherever_memory_ends_the_run_goes_on_once_there_is_more(megabytes: int, place: Path, tmp_path: Path):
    run = tmp_path / "run"
    _check(_run_within(megabytes, place, run), run)
    begun = (run / "run.json").is_file()
    assert in_child(partial(run_sft, place, run, resume=begun)).status == 0
    assert (run / "final").is_dir()
