"""Takes queued jobs in their order, as many at once as there are devices, and sees that each has a living supervisor.

It holds no state that is not in the queue: killed and started again, it finds what runs by process number and start.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from configs import InputError
from finetune.runs import transitions
from finetune.runs.callback import check_url, deliver_due, forget_owed
from finetune.runs.job import Job
from finetune.runs.job_store import JobStore
from finetune.runs.kinds import CPU
from finetune.runs.local_run import importable_path
from finetune.runs.process_start import is_alive
from finetune.runs.supervise import RUNS

LOCK = "worker.lock"
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_BETWEEN_DELIVERIES = 1.0
MOST_SILENT = 3
"""How often in a row a supervisor of a job may end without having begun, before the job fails."""
SLURM = "slurm-"
"""How the slots of Slurm begin."""
GPUS_OF_DRIVER = Path("/proc/driver/nvidia/gpus")

said = logging.getLogger("finetune.runs")


class Worker:
    """The worker of a queue; there is one at a time."""

    def __init__(
        self,
        store: JobStore,
        *,
        devices: Sequence[str],
        launcher: Literal["local", "slurm"] = "local",
        callback_url: str | None = None,
    ) -> None:
        """Takes the devices, each for one job at a time: `cpu`, or what CUDA_VISIBLE_DEVICES may hold.

        Raises:
            InputError: there is no device, or the URL is none.

        """
        if not devices or len(set(devices)) < len(devices):
            raise InputError(f"devices: found {', '.join(devices) or 'none'}, expected one or more, each once")
        if any(device.startswith(SLURM) != (launcher == "slurm") for device in devices):
            raise InputError(f"devices: found {', '.join(devices)}, expected slurm-0, slurm-1 with Slurm alone")
        self.store = store
        self.devices = list(devices)
        self.callback_url = None if callback_url is None else check_url(callback_url)
        self._lock = FileLock(store.folder / LOCK)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._supervisors: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._silent: dict[str, int] = {}
        self._seen: set[str] = set()

    def start(self) -> None:
        """Works in a thread until `stop`.

        Raises:
            InputError: another worker works on this queue.

        """
        self._begin()
        self._threads.append(threading.Thread(target=self._work, name="worker", daemon=True))
        self._threads[-1].start()

    def stop(self) -> None:
        """Takes no further job; what runs goes on."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._lock.release()

    def work(self) -> None:
        """Works until it is interrupted; what runs goes on then.

        Raises:
            InputError: another worker works on this queue.

        """
        self._begin()
        try:
            self._work()
        finally:
            self.stop()

    def look(self) -> None:
        """One round: looks after what runs, then takes what waits."""
        for place, supervisor in list(self._supervisors.items()):
            if supervisor.poll() is not None:  # which also takes its zombie away
                del self._supervisors[place]
        for job in self.store.list(states=["running"], newest_first=False):
            self._look_after(job)
        while not self._stopping.is_set() and (taken := transitions.take_next(self.store.database, self.devices)):
            job_id, attempt, device = taken
            said.info("%s: runs on %s", job_id, device)
            self._supervise(job_id, attempt)

    def _begin(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{self.store.folder}: another worker works on this queue: stop it first") from None
        self._stopping.clear()
        if self.callback_url is not None:
            self._threads.append(threading.Thread(target=self._deliver, name="callbacks", daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
                if self.callback_url is None:
                    forget_owed(self.store)
            except (InputError, OSError) as error:  # a full disk, a lock: what is not done now is done next time
                said.warning("%s", error)
            self._stopping.wait(SECONDS_BETWEEN_LOOKS)

    def _deliver(self) -> None:
        while not self._stopping.wait(SECONDS_BETWEEN_DELIVERIES):
            try:
                deliver_due(self.store, self.callback_url or "")
            except InputError as error:
                said.warning("%s", error)

    def _look_after(self, job: Job) -> None:
        """Gives a running job a supervisor where it has none, or queues it again where its run is gone too."""
        if is_alive(job.pid, job.pid_started):
            if job.id not in self._seen:
                self._seen.add(job.id)
                said.info("%s: is attended by process %s", job.id, job.pid)
            self._silent.pop(job.id, None)
            return
        if job.pid is None:
            if (job.id, job.attempt) in self._supervisors:  # it has only just been started
                return
            self._silent[job.id] = self._silent.get(job.id, 0) + 1
            if self._silent[job.id] > MOST_SILENT:
                error = f"its supervisor ended {MOST_SILENT} times before it began: see its log"
                transitions.end(self.store.database, job.id, job.attempt, "failed", error)
                return
        elif RUNS[self._launcher_of(job)](job).is_over() and RUNS[self._launcher_of(job)](job).ending() is None:
            state = transitions.end_lost(self.store.database, job.id, job.attempt, "its process is gone")
            said.warning("%s: its process is gone: %s", job.id, state)
            return
        attempt = transitions.hand_on(self.store.database, job.id, job.attempt)
        if attempt is not None:
            said.info("%s: gets a new supervisor", job.id)
            self._supervise(job.id, attempt)

    def _launcher_of(self, job: Job) -> str:
        """What started the job's run, which may have been a worker that was configured otherwise."""
        return "slurm" if (job.device or "").startswith(SLURM) else "local"

    def _supervise(self, job_id: str, attempt: int) -> None:
        job = self.store.get(job_id)
        command = [sys.executable, "-m", "finetune.runs.supervise", str(self.store.folder), job_id, str(attempt)]
        descriptor = os.open(job.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "ab", buffering=0) as log:
            self._supervisors[job_id, attempt] = subprocess.Popen(
                [*command, self._launcher_of(job)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "PYTHONPATH": importable_path()},
                start_new_session=True,
            )


def find_devices(launcher: str = "local", at_once: int = 1) -> list[str]:
    """The GPUs that this process may use, without loading what could use them; else one slot of the CPU.

    With Slurm, slots for so many jobs as are handed over at once.
    """
    if launcher == "slurm":
        return [f"{SLURM}{number}" for number in range(at_once)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = [one.strip() for one in visible.split(",") if one.strip() not in ("", "-1")]
    else:
        found = [str(number) for number, _ in enumerate(GPUS_OF_DRIVER.glob("*"))]
    return found or [CPU]
