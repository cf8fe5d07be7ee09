"""A run of ten steps on a file larger than memory should be: its peak memory, and the time to its first step.

    python -m tests.benchmarks.large_files [MB ...]

Writes a JSONL file of so many MB (3 and 3,000 unless told) of conversations about the words of the embedded corpus, a
kilobyte each and no two alike, and runs `finetune/sft.py --max_steps 10` on the embedded base in a process of its own,
without anything in the cache, and then again. The largest resident memory of the process, which counts pages of mapped
files too; seconds to the first step; what it said meanwhile. A quarter of an hour and 9 GB of disk.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from scratch_models.corpus.embedded_corpus import embedded_corpus
from tests.house.repository import ROOT

STEPPED = re.compile(r"training [1-9]")
SIZES_MB = (3, 3000)
WORDS_OF_A_QUESTION, WORDS_OF_A_REPLY = 60, 90
SETTINGS: tuple[str, ...] = ("--max_steps", "10", "--evaluation_conversations", "4", "--reply_tokens", "4")
SETTINGS += ("--warmup_steps", "1", "--conversations_per_step", "8")


def main() -> None:
    """Prints a row for each size, first and second run."""
    sizes = [int(one) for one in sys.argv[1:]] or SIZES_MB
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        for size in sizes:
            data = write_conversations(Path(folder) / f"{size}.jsonl", size << 20)
            for which in ("first", "second"):
                peak, seconds, lines = run_once(data, Path(folder))
                print(
                    f"{size:,} MB, {which} run: peak {peak >> 20:,} MiB, first step after {seconds:.1f} s", flush=True
                )
                print("    " + "\n    ".join(lines[:: max(1, len(lines) // 12)]), flush=True)


def write_conversations(path: Path, size: int) -> Path:
    """A file of about so many bytes."""
    words = [word for document in embedded_corpus().domain[:400] for word in document.text.split()]
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        number = 0
        while file.tell() < size:
            for _ in range(1000):
                number += 1
                asked = f"{number}: {' '.join(draw.choices(words, k=WORDS_OF_A_QUESTION))}?"
                reply = " ".join(draw.choices(words, k=WORDS_OF_A_REPLY))
                said = [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]
                file.write(json.dumps({"messages": said}) + "\n")
    return path


def run_once(data: Path, folder: Path) -> tuple[int, float, list[str]]:
    """Peak bytes of one run, seconds to its first step, and the lines of progress before it."""
    command = [sys.executable, str(ROOT / "finetune/sft.py"), "--base", "embedded", "--data", str(data), *SETTINGS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    environment["OMP_NUM_THREADS"] = "1"
    started, seconds, peak, lines = time.perf_counter(), 0.0, 0, list[str]()
    log = folder / "log.txt"
    with log.open("w") as written, log.open() as read:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=written, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, resident_bytes(watched))
            for line in read:
                if not seconds:
                    lines.append(f"{time.perf_counter() - started:5.0f} s  {line.rstrip()}")
                if not seconds and STEPPED.match(line):
                    seconds = time.perf_counter() - started
            time.sleep(0.1)
    assert process.returncode == 0, log.read_text()[-2000:]
    return peak, seconds, lines


def resident_bytes(process: psutil.Process) -> int:
    """What a process holds in memory now; 0 once it is over."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


if __name__ == "__main__":
    main()
