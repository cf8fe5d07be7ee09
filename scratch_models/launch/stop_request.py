"""A run that is asked to end: by SIGTERM or Ctrl-C to any of its processes, or by the death of its launcher.

The first signal sets a mark. Before each step the processes add up their marks, so that all of them end at the same
one, save it, and say how to go on. While the main process evaluates, which can take minutes, the mark takes it out of
that: the others do not change anything meanwhile, so it saves alone, and a run that goes on evaluates anew. Where
slices of the optimizer lie in every process it cannot, and the evaluation is finished first.

A launcher hands on to its workers what a terminal sends to all of them: within two seconds that counts as one signal. A
second Ctrl-C after that ends the process at once, even in the middle of a product.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from accelerate import Accelerator

from scratch_models.launch.launched_process import slurm_step
from scratch_models.launch.waiting import store_of_processes

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_OF_ONE_SIGNAL = 2.0
SECONDS_TO_LEAVE = 10.0
INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended
ANOTHER = "a signal to another process"
ASKED, LEFT, GONE = "graft/stop/asked", "graft/stop/left", "graft/stop/gone"


class AskedToStop(Exception):
    """The processes agreed to end before the step, or the main process to end in the middle of an evaluation."""


class StopRequest:
    """Whether this process was asked to end, and by what."""

    def __init__(self, accelerator: Accelerator, *, heeded: bool = True) -> None:
        """With `heeded` false nothing is listened to: what goes on is no run that could go on later."""
        self.accelerator = accelerator
        self.heeded = heeded and threading.current_thread() is threading.main_thread()
        self.reason = ""
        """The signal, or what else asked; empty while nobody did."""
        self._told = ""
        self._is_in_evaluation = False
        self._is_over = threading.Event()
        self._first_signal: float | None = None
        self._parent = os.getppid() if _is_launched() else None

    @contextmanager
    def listened_to(self) -> Iterator[None]:
        """Listens while a run trains; what was listening before does so again afterwards."""
        if not self.heeded:
            yield
            return
        heard, woken = os.pipe()
        for end in (heard, woken):
            os.set_blocking(end, False)
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        woken_before = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        watch = threading.Thread(target=self._watch, args=(heard,), name="stop request", daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._is_over.set()
            watch.join()
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in (heard, woken):
                os.close(end)

    @contextmanager
    def ends_evaluation(self, *, alone: bool) -> Iterator[None]:
        """Has a request take this process out of what is done inside; `alone`, where it can save without the others.

        Raises:
            AskedToStop: the request came.

        """
        if not (alone and self.heeded and self.accelerator.is_main_process):
            yield
            return
        self._is_in_evaluation = True
        try:
            if self.reason:
                raise AskedToStop
            yield
        finally:
            self._is_in_evaluation = False

    def leave_no_one_waiting(self) -> None:
        """Tells the other processes that the main one has saved in the middle of an evaluation: they end at once."""
        if self.accelerator.num_processes > 1:
            with suppress(RuntimeError):  # the store died with the launcher: the others see the connections close
                store, until = store_of_processes(), time.monotonic() + SECONDS_TO_LEAVE
                store.set(LEFT, "1")
                while store.add(GONE, 0) < self.accelerator.num_processes - 1 and time.monotonic() < until:
                    time.sleep(SECONDS_BETWEEN_LOOKS / 10)  # the store may be this process's own

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self.reason:  # a launcher sends on what came already
            return
        self.reason = self._told or signal.Signals(number).name
        again = "; Ctrl-C again ends at once, without one" if number == signal.SIGINT else ""
        if self.accelerator.is_main_process:
            print(f"\n{self.reason}: ends with a checkpoint{again}", file=sys.stderr, flush=True)
        if self._is_in_evaluation:
            raise AskedToStop

    def _watch(self, heard: int) -> None:
        """In a thread: what cannot wait for the main one, which may be deep in a product or in a collective."""
        has_store = self.accelerator.num_processes > 1
        while not self._is_over.is_set():
            if select.select([heard], [], [], SECONDS_BETWEEN_LOOKS)[0]:
                self._count(os.read(heard, 64))
            if self._parent is not None and os.getppid() != self._parent:
                self._parent, self._told = None, "the end of its launcher"
                signal.raise_signal(signal.SIGTERM)
            if has_store:
                try:
                    self._tell_others()
                except RuntimeError:  # the store died with the launcher
                    has_store = False

    def _count(self, numbers: bytes) -> None:
        now = time.monotonic()
        if self._first_signal is None:
            self._first_signal = now
        elif signal.SIGINT in numbers and now - self._first_signal > SECONDS_OF_ONE_SIGNAL:
            os._exit(INTERRUPTED)

    def _tell_others(self) -> None:
        store = store_of_processes()
        if self.reason:
            store.set(ASKED, "1")
        elif store.check([ASKED]):
            self._told = ANOTHER
            signal.raise_signal(signal.SIGTERM)
        if not self.accelerator.is_main_process and store.check([LEFT]):
            store.add(GONE, 1)
            sys.stdout.flush()
            os._exit(0)


def _is_launched() -> bool:
    """Whether a launcher waits for this process, which it should not outlive; a shell may be left."""
    by_name = "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    return by_name or slurm_step(os.environ) is not None
