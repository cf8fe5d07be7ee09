"""What takes long is seen while it lasts: lines in a log, a bar in a terminal, from one process of several."""

import fcntl
import os
import pty
import struct
import sys
import termios
import time

import pytest

from tokenizer_ext.pages import progress as module
from tokenizer_ext.pages.progress import progress, shown, tracked

PAUSE = 0.3


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The same in a twentieth of the time."""
    for name, seconds in (("DELAY_SECONDS", 0.05), ("LINE_SECONDS", 0.1), ("TICK_SECONDS", 0.02)):
        monkeypatch.setattr(module, name, seconds)
    time.sleep(0.1)  # the thread of an earlier test has ended, and its last line is long ago


def test_a_log_gets_whole_lines_while_one_item_takes_long(capsys):
    for _ in tracked(["a", "b"], "hashing", "files"):
        time.sleep(PAUSE)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 2 * PAUSE / 0.1 + 1
    assert lines[0].startswith("hashing 0 of 2 files, ") and lines[-1].startswith("hashing 1 of 2 files, ")


def test_what_is_over_soon_is_not_shown(capsys):
    with progress("short"):
        pass
    time.sleep(PAUSE)
    assert capsys.readouterr().err == ""


def test_a_line_says_what_goes_on_around_it_and_what_is_counted_beside(capsys):
    with progress("the base"), progress("replies", 4, "questions") as bar:
        bar.update(3)
        bar.set_postfix_str("70 tokens", refresh=False)
        time.sleep(PAUSE)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("the base: replies 3 of 4 questions, ") for line in lines)
    assert all(line.endswith(", 70 tokens") for line in lines)


def test_a_bar_that_is_kept_ends_in_a_line_and_others_do_not(capsys):
    for keep in (True, False):
        with progress("training", 2, "steps", keep=keep) as bar:
            time.sleep(PAUSE)
            bar.update(2)
        time.sleep(0.05)
        assert capsys.readouterr().err.splitlines()[-1].startswith("training 2 of 2" if keep else "training 0 of 2")


def test_what_fails_is_silent_afterwards(capsys):
    @shown("failing")
    def fail():
        time.sleep(PAUSE)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "failing" in capsys.readouterr().err
    time.sleep(PAUSE)
    assert capsys.readouterr().err == ""


def test_of_several_processes_the_first_one_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with progress("reading", 3, "files") as bar:
        time.sleep(PAUSE)
        bar.update()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_whose_clock_runs_on_and_which_is_cleared(monkeypatch):
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress("reading", 3, "files") as bar:
            bar.update()
            time.sleep(1.3)  # its clock shows seconds
        os.set_blocking(reader, False)
        drawn = b"".join(iter(lambda: _read(reader), b"")).decode().split("\r")
    os.close(reader)
    assert any("1/3 [00:00" in state for state in drawn) and any("1/3 [00:01" in state for state in drawn)
    assert [state for state in drawn if state.strip()] and drawn[-1] == ""  # the line is empty again
    assert not any("\n" in state for state in drawn)


def _read(reader: int) -> bytes:
    """What a terminal was sent, as much as it hands out at once; nothing once that is all."""
    try:
        return os.read(reader, 1 << 12)
    except BlockingIOError:
        return b""
