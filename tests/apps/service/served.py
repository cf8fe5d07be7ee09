"""The service in a process of its own, with small models that can be asked and tuned."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from openai import OpenAI

from tests.apps.served import free_port
from tests.house.repository import ROOT

SECONDS_TO_START = 120
ADDRESS = re.compile(r"Service: (http://127\.0\.0\.1:\d+)/v1")


@dataclass(frozen=True)
class Service:
    """A service under test."""

    address: str
    folder: Path
    """Where it works."""
    output: Path
    """What it prints, its log among it."""
    process: subprocess.Popen

    def client(self, key: str = "none") -> OpenAI:
        """The official client."""
        return OpenAI(base_url=f"{self.address}/v1", api_key=key, max_retries=0, timeout=120)


@contextmanager
def started(folder: Path, *arguments: str, port: int | None = None) -> Iterator[Service]:
    """The service with these settings, ended in order at the end."""
    output = folder / "output"
    command = [sys.executable, "-m", "apps.service", "--port", str(port or free_port()), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with output.open("a") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=environment)
    end = time.monotonic() + SECONDS_TO_START
    try:
        while True:
            assert process.poll() is None and time.monotonic() < end, output.read_text()
            found = ADDRESS.findall(output.read_text())  # the last one is of this start
            if found and _answers(found[-1]):
                break
            time.sleep(0.05)
        yield Service(found[-1], folder, output, process)
    finally:
        process.terminate()
        process.wait(40)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(job_id: str, client: OpenAI, seconds: float = 120):
    """The job once it has ended."""
    end = time.monotonic() + seconds
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < end, job
        time.sleep(0.3)
    return job
