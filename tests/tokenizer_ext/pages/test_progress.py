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


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The same in a twentieth of the time."""
    for name, seconds in (("DELAY_SECONDS", 0.05), ("LINE_SECONDS", 0.1), ("TICK_SECONDS", 0.02)):
        monkeypatch.setattr(module, name, seconds)


class _Log:
    """What a log has got so far."""

    def __init__(self, capsys):
        self.capsys, self.text = capsys, ""

    def getvalue(self):
        self.text += self.capsys.readouterr().err
        return self.text


@pytest.fixture
def log(capsys):
    return _Log(capsys)


def _lines(log, number):
    """The lines of a log, once it has so many."""
    end = time.monotonic() + 20
    while len(log.getvalue().splitlines()) < number and time.monotonic() < end:
        time.sleep(0.01)
    return log.getvalue().splitlines()


def test_a_log_gets_whole_lines_while_one_item_takes_long(log):
    started = time.monotonic()
    for number, _ in enumerate(tracked(["a", "b"], "hashing", "files"), 1):
        _lines(log, 3 * number)
    lines = log.getvalue().splitlines()
    assert 6 <= len(lines) <= (time.monotonic() - started) / 0.1 + 1
    assert [line[:20] for line in (lines[0], lines[-1])] == ["hashing 0 of 2 files", "hashing 1 of 2 files"]


def test_what_is_over_soon_is_not_shown(log, monkeypatch):
    monkeypatch.setattr(module, "DELAY_SECONDS", 10.0)
    with progress("short"):
        time.sleep(0.3)
    assert log.getvalue() == ""


def test_a_line_says_what_goes_on_around_it_and_what_is_counted_beside(log):
    with progress("the base"), progress("replies", 4, "questions") as bar:
        bar.update(3)
        bar.set_postfix_str("70 tokens", refresh=False)
        lines = _lines(log, 2)
    assert lines and all(line.startswith("the base: replies 3 of 4 questions, ") for line in lines)
    assert all(line.endswith(", 70 tokens") for line in lines)


@pytest.mark.parametrize("keep", [True, False])
def test_a_bar_that_is_kept_ends_in_a_line_and_another_does_not(keep, log):
    with progress("training", 2, "steps", keep=keep) as bar:
        bar.update()
        _lines(log, 1)
        bar.close()
    assert log.getvalue().count("training 1 of 2") == (2 if keep else 1)


def test_what_fails_is_silent_afterwards(log):
    @shown("failing")
    def fail():
        _lines(log, 1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    said = log.getvalue()
    assert "failing" in said
    time.sleep(0.3)
    assert log.getvalue() == said


def test_of_several_processes_the_first_one_speaks(log, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with progress("reading", 3, "files") as bar:
        time.sleep(0.3)
        bar.update()
    assert log.getvalue() == ""


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
