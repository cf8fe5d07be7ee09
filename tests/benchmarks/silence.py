"""How long a command says nothing: the longest time between two outputs, on stdout and stderr alike.

    python -m tests.benchmarks.silence
    python -m tests.benchmarks.silence -- python -m finetune.compare --tuned runs/sft-1 --data chats.jsonl

Without a command it starts a short fine-tuning of the embedded base. What is silent before the first output is the
interpreter and its imports, and is shown apart.
"""

import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.house.repository import ROOT

DEFAULT = (
    *(
        sys.executable,
        "-m",
        "finetune.sft",
        "--base",
        "embedded",
        "--max_steps",
        "10",
        "--evaluation_conversations",
        "32",
    ),
    *("--output_dir", "run"),
)


@dataclass(frozen=True)
class Gap:
    """A time without output, and the last lines before it and the first after it."""

    seconds: float
    before: str
    after: str


def listen(command: list[str], folder: Path) -> tuple[float, list[Gap], int]:
    """Seconds until the first output, the gaps after it with the longest first, and the exit status."""
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **os.environ}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment, text=False
    )
    started, outputs = time.monotonic(), [(0.0, "")]
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                read = os.read(key.fd, 65536)
                if not read:
                    selector.unregister(key.fileobj)
                    continue
                outputs.append((time.monotonic() - started, read.decode(errors="replace").strip()))
                sys.stderr.write(read.decode(errors="replace"))
    status = process.wait()
    outputs.append((time.monotonic() - started, "(the end)"))
    gaps = [
        Gap(after - before, said.splitlines()[-1] if said else "", then.splitlines()[0] if then else "")
        for (before, said), (after, then) in pairwise(outputs[1:])
    ]
    return outputs[1][0], sorted(gaps, key=lambda gap: -gap.seconds), status


def main() -> None:
    """Starts the command, listens, and shows the longest gaps."""
    arguments = sys.argv[1:]
    command = arguments[arguments.index("--") + 1 :] if "--" in arguments else arguments
    with tempfile.TemporaryDirectory() as folder:
        first, gaps, status = listen(command or list(DEFAULT), Path.cwd() if command else Path(folder))
    print(f"\nexit status {status}; until the first output {first:.1f} s; the longest silences after it:")
    for gap in gaps[:5]:
        print(f"  {gap.seconds:5.1f} s between {gap.before[:70]!r} and {gap.after[:70]!r}")


if __name__ == "__main__":
    main()
