"""Memory that cannot be had is said in one line with status 2, whichever library asked for it; nothing else is."""

import mmap
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from configs import InputError
from configs.errors import OutOfMemory, lacks_memory
from configs.one_line_ending import line_of
from configs.read_in_one_line import read_in_one_line

TOO_MANY = 10**15
ASKING: dict[str, Callable[[], object]] = {
    "Python": lambda: bytearray(TOO_MANY),
    "numpy": lambda: np.empty(TOO_MANY),
    "torch": lambda: torch.empty(TOO_MANY),
    "a product of torch": lambda: torch.ones(10**7, 1) @ torch.ones(1, 10**7),
    "the system": lambda: mmap.mmap(-1, TOO_MANY),
}
NO_THREAD = """
import resource, threading
from pathlib import Path
from configs.one_line_ending import ends_in_one_line

with ends_in_one_line(with_traceback=False, settings=["maximum_tokens", "resume"]):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**20,) * 2)
    threading.Thread(target=print).start()
"""


def _raised_by(ask: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as raised:
        ask()
    return raised.value


@pytest.mark.parametrize("who", ASKING)
def test_whoever_cannot_have_memory_it_is_one_line_with_status_2(who: str):
    line, status = line_of(_raised_by(ASKING[who]), ["base_bits", "resume"])
    assert status == 2 and line.startswith("memory: ") and "\n" not in line
    assert "not to be had" in line and "take --base_bits 8 or 4" in line and "--resume" in line


def test_the_line_says_how_many_bytes_were_asked_for():
    assert "4,000,000,000,000,000 bytes more" in line_of(_raised_by(ASKING["torch"]))[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set by what Linux tells")
def test_a_thread_that_cannot_start_is_one_line_with_the_limit():
    ended = subprocess.run([sys.executable, "-c", NO_THREAD], capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "not to be had for a thread" in ended.stderr and "`ulimit -v` allows" in ended.stderr
    assert "a smaller --maximum_tokens" in ended.stderr and "base_bits" not in ended.stderr


def test_what_a_library_could_not_read_for_want_of_memory_names_the_place():
    with pytest.raises(OutOfMemory) as raised, read_in_one_line("llama: no causal model", "expected a folder"):
        torch.empty(TOO_MANY)
    line, status = line_of(raised.value, ["base_bits"])
    assert status == 2 and line.startswith("llama: no causal model (it takes more memory than there is)")
    assert "--base_bits 8 or 4" in line


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        InputError("the server says: out of memory"),
        OSError("libgomp.so.1: cannot allocate memory in static TLS block"),
        OSError(13, "Permission denied"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: Exception):
    assert not lacks_memory(error)
