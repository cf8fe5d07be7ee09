"""The studio in a process of its own, watched for whatever it asks of other machines."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.house.repository import ROOT

MARKUP = "<b>bold</b> <img src=x onerror=alert(1)> **1** `2` $3$ {{4}} ${5} 数 🙂\n"
SECONDS_TO_START = 120
ADDRESS = re.compile(r"Studio: (http://127\.0\.0\.1:\d+/)")

# Writes down every other machine that the process turns to, then starts the studio.
WATCHED_START = """
import runpy, sys
log = sys.argv.pop(1)
def watch(event, arguments):
    host = {"socket.connect": lambda: arguments[1], "socket.getaddrinfo": lambda: arguments}.get(event, lambda: None)()
    if isinstance(host, tuple) and host[0] not in (None, "127.0.0.1", "localhost"):
        print(event, host, file=open(log, "a"))
sys.addaudithook(watch)
runpy.run_module("apps.studio", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Served:
    """The studio in a process of its own."""

    address: str
    output: Path
    """What it prints."""
    outside: Path
    """Every other machine that it turned to, a line each."""
    process: int
    """Its id."""


def serve(run: Path, folder: Path) -> Iterator[Served]:
    """The studio of a run on a free port, with `folder` to work in."""
    output, outside = folder / "output", folder / "outside"
    outside.touch()
    command = [sys.executable, "-c", WATCHED_START, str(outside), "--tuned", str(run), "--port", str(free_port())]
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=environment())
    end = time.monotonic() + SECONDS_TO_START
    try:
        while not (found := ADDRESS.search(output.read_text())) or not is_made(found[1]):
            assert process.poll() is None and time.monotonic() < end, output.read_text()
            time.sleep(0.1)
        yield Served(found[1], output, outside, process.pid)
    finally:
        process.terminate()
        process.wait(60)


def is_made(address: str) -> bool:
    """Whether page and models are there; the service listens before."""
    try:
        ready = httpx.get(f"{address}readyz", timeout=10).json()["models"]
        made = httpx.get(address, timeout=10).status_code == 200
    except (httpx.TransportError, ValueError):
        return False
    return made and ready != "being read" and all(model["state"] != "loading" for model in ready)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """That of this process, except that nothing tells libraries to stay at home: the studio has to by itself."""
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return {**kept, "GRADIO_ANALYTICS_ENABLED": "True", "PYTHONPATH": str(ROOT)}
