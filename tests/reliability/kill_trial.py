"""One command that is killed again and again, each time from the same start, and goes on."""

import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.reliability.folder_states import comparable, put_back, state_of
from tests.reliability.killable import Killable
from tests.reliability.killed_runs import end_as_a_process, run_forked


@dataclass
class Trial:
    """One command, and the folders that it is tried in."""

    killable: Killable
    folder: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    """How often it came to what."""

    def __post_init__(self) -> None:
        self.inputs, self.live, self.whole = (self.folder / name for name in ("inputs", "live", "whole"))
        self.prepared, self.copies, self.left = (self.folder / name for name in ("prepared", "copies", "left"))
        self.log = self.folder / "log.txt"
        for made in (self.live, self.copies):
            made.mkdir()
        status, _ = run_forked(partial(self.killable.prepare, self.inputs, self.live), self.log, beneath=self.live)
        assert status == 0, self.log.read_text()
        shutil.copytree(self.live, self.prepared)
        self.work = partial(self.killable.start, self.inputs, self.live)
        self.events = import_as(self.work, self.log, self.live)
        shutil.copytree(self.live, self.whole)
        self.untouched = state_of(self.inputs)

    def begin_anew(self) -> None:
        """Has `live` hold what was done before the command, and nothing of it."""
        put_back(self.prepared, self.live)

    def go_on(self, left: Path, **found: Any) -> None:
        """Prints what a kill came to that left this."""
        put_back(left, self.live)
        status, _ = run_forked(partial(self.killable.go_on, self.inputs, self.live), self.log, beneath=self.live)
        came_to = self.killable.judge(self.live, self.whole, left, status, self.log)
        if state_of(self.inputs) != self.untouched:
            came_to = f"{came_to}, but the inputs were changed"
        self.outcomes[came_to] += 1
        print(json.dumps({**found, "came to": came_to}), flush=True)

    def kill(self, at: int, *, torn: bool) -> None:
        """Kills at one event; what that leaves must be known."""
        self.begin_anew()
        status, _ = run_forked(self.work, self.log, beneath=self.live, at=at, torn=torn)
        assert status == -signal.SIGKILL, f"{at}: not killed, {status}"
        state = comparable(state_of(self.live))
        is_known = any(comparable(state_of(copy)) == state for copy in self.copies.iterdir())
        put_back(self.live, self.left)
        self.go_on(self.left, event=at, torn=torn, recorded=is_known)
        assert is_known, f"the state at event {at} was not recorded"

    def kill_after(self, seconds: float) -> bool:
        """Kills at any time; whether the command was still under way."""
        self.begin_anew()
        child = os.fork()
        if child == 0:
            end_as_a_process(self.work, self.log)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return False
        assert status == -signal.SIGKILL, self.log.read_text()
        put_back(self.live, self.left)
        self.go_on(self.left, seconds=round(seconds, 2))
        return True


def import_as(work: Callable[[], Any], log: Path, live: Path) -> int:
    """Imports here whatever the work imports; how many calls it makes that change a file."""
    listed = log.with_suffix(".modules")

    def work_and_list() -> None:
        work()
        listed.write_text("\n".join(sys.modules))

    status, events = run_forked(work_and_list, log, beneath=live)
    assert status == 0, log.read_text()
    for name in listed.read_text().splitlines():
        with suppress(Exception):  # parts of modules that no import finds
            importlib.import_module(name)
    return events
