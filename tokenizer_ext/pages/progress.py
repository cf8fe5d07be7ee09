"""Progress that is seen from the first second: a bar in a terminal or a notebook, a line every few seconds elsewhere.

tqdm draws the bars. What it does not do: it is silent while one item takes long, and where nobody watches, in a log, it
writes every state of its bar. So a thread lets the clock of the innermost bar run on, and a log gets whole lines.
"""

import _thread
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from tqdm.auto import notebook_tqdm
from tqdm.auto import tqdm as chosen_by_tqdm
from tqdm.std import tqdm

from configs.one_line_ending import is_main_process

T = TypeVar("T")
P = ParamSpec("P")

DELAY_SECONDS = 0.5
"""What takes no longer is not shown."""
LINE_SECONDS = 2.0
"""Between two lines of a log, for its first ten minutes."""
LATER_LINE_SECONDS = 30.0
TICK_SECONDS = 0.25


def progress(what: str, total: int | None = None, unit: str = "", *, initial: int = 0, keep: bool = False) -> tqdm:
    """A bar to `update`, and to close, as a context does; without a total only its clock runs.

    Args:
        what: What is done, such as "reading the base".
        total: How many units there are.
        unit: What is counted, in the plural.
        initial: How many are done already.
        keep: Whether it stays in a terminal once it is closed.

    """
    known = {"unit": f" {unit}", "bar_format": None} if total else {"bar_format": "{desc} {elapsed}{postfix}"}
    settings: dict[str, Any] = {"desc": what, "total": total, "initial": initial, "leave": keep, **known}
    if not is_main_process():
        return tqdm(disable=True, **settings)
    if notebook_tqdm is not tqdm:
        return chosen_by_tqdm(delay=DELAY_SECONDS if total else 0, **settings)
    return (_Bar if sys.stderr.isatty() else _Lines)(**settings)


def tracked(items: Iterable[T], what: str, unit: str, total: int | None = None) -> Iterator[T]:
    """The items one by one, each counted once it is done with."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(what, total, unit) as bar:
        for item in items:
            yield item
            bar.update()


def shown(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Has a clock run while a function does `what`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*arguments: P.args, **named: P.kwargs) -> T:
            with progress(what):
                return function(*arguments, **named)

        return call

    return decorate


class _Clock:
    """The thread that lets the innermost open bar show that time goes by, while there is one."""

    def __init__(self) -> None:
        self.bars: list[_Bar | _Lines] = []
        self.lock = threading.RLock()  # a bar may be collected, and so closed, while the thread draws
        self.runs_in: int | None = None
        """The process that has the thread: a fork of it has none."""

    def add(self, bar: "_Bar | _Lines") -> None:
        with self.lock:
            self.bars.append(bar)
            if self.runs_in != os.getpid():
                # `Thread.start` would wait for ever for a thread that finds no memory to begin in.
                _thread.start_new_thread(self._run, ())
                self.runs_in = os.getpid()

    def remove(self, bar: "_Bar | _Lines") -> None:
        with self.lock:
            self.bars = [one for one in self.bars if one is not bar]  # tqdm's bars are equal by their place

    def _run(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            with self.lock:
                if not self.bars:
                    self.runs_in = None
                    return
                if time.time() >= self.bars[0].start_t + DELAY_SECONDS:
                    self.bars[-1].tick([bar.desc for bar in self.bars[:-1]])


_clock = _Clock()


class _Bar(tqdm):
    """A bar of a terminal, whose clock runs on between two items."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(delay=DELAY_SECONDS, dynamic_ncols=True, **settings)
        _clock.add(self)

    def tick(self, _outer: list[str]) -> None:
        with suppress(ValueError):  # the stream was closed meanwhile
            self.refresh()

    def close(self) -> None:
        _clock.remove(self)
        # tqdm clears only what it knows to have drawn, and of the clock's drawing it knows nothing.
        if not self.disable and time.time() >= self.start_t + self.delay:
            self.last_print_t = time.time()
        super().close()


class _Lines(tqdm):
    """What a bar would show, as lines of a log."""

    last_line = 0.0  # of any of them

    def __init__(self, **settings: Any) -> None:
        self.said = 0
        super().__init__(gui=True, **settings)
        _clock.add(self)

    def refresh(self, *_: Any, **__: Any) -> None:
        """Draws nothing: the clock says when a line is due."""

    display = clear = refresh  # type: ignore[assignment]

    def tick(self, outer: list[str]) -> None:
        every = LINE_SECONDS if time.time() - self.start_t < 600 else LATER_LINE_SECONDS
        if time.time() - _Lines.last_line >= every:
            self.say(outer)

    def say(self, outer: list[str]) -> None:
        """Writes a line, headed by what goes on around it."""
        shown = self.format_dict
        counted = "{desc} {n_fmt} of {total_fmt}{unit}, {elapsed}, {remaining} left{postfix}"
        shown["bar_format"] = counted if self.total else "{desc} {elapsed}{postfix}"
        with suppress(ValueError):  # the stream was closed meanwhile
            print(*outer, self.format_meter(**shown), sep=": ", file=sys.stderr, flush=True)
        self.said, _Lines.last_line = self.said + 1, time.time()

    def close(self) -> None:
        _clock.remove(self)
        if self.leave and self.said and not self.disable:
            self.say([])
        super().close()
