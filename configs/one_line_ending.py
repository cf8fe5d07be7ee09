"""How a command ends on an error: in one line, with a status; `--traceback` shows where it was raised.

Status 2 is for what the user can mend: our own errors, those of the file system that name a file, and that there is not
enough memory. Any other exception is a fault of the program, with status 1.
"""

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

from configs.disk_space import describe_full_disk, free_bytes
from configs.ending_file import MOST_LETTERS, Ending, take_ending_file, write_ending
from configs.errors import InputError, RunStopped, lacks_memory, on_one_line

TRACEBACK = "--traceback"
LOST = ("Connection closed by peer", "Connection reset by peer")
"""What torch says in a process that waits for another one of the same run, which has ended."""
ANOTHER_ENDED = (
    "another process of this run has ended, and this one with it: look for what it said, or for what ended it (not "
    "enough memory ends a process without a word), then go on from the last checkpoint with --resume"
)
LESS_MEMORY: Mapping[str, str] = {
    "base_bits": "--base_bits 8 or 4",
    "gradient_checkpointing": "--gradient_checkpointing true",
    "tokens_per_micro_batch": "a smaller --tokens_per_micro_batch",
    "maximum_tokens": "a smaller --maximum_tokens",
}
"""What takes less of it, by the setting that says so."""
SHARED = "a launch that shares it out among several processes (docs/scaling.md)"
"""Takes less of it in each."""
LIMITS: Mapping[str, str] = {"RLIMIT_AS": "ulimit -v", "RLIMIT_DATA": "ulimit -d"}


@contextmanager
def ends_in_one_line(*, with_traceback: bool, settings: Collection[str] = ()) -> Iterator[None]:
    """Ends the process on whatever is raised inside, with one line on stderr, and before it where it was raised.

    Among several processes of one launch only the main one says what the user can mend, and each that it has too little
    memory: the names of the command's `settings` decide what it is advised then. Whoever started the process may have
    asked to find that line, or that there was none, in a file (`configs/ending_file.py`).
    """
    file = take_ending_file()
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _end_in_order) if in_main_thread else None
    try:
        yield
        _note(file, Ending(0))
    except SystemExit as ended:
        _note(file, Ending(ended.code if isinstance(ended.code, int) else int(ended.code is not None)))
        raise
    except GeneratorExit:
        raise
    except RunStopped as stopped:
        _note(file, Ending(0, str(stopped), stopped=True))
        say(str(stopped), file=sys.stderr)
        sys.exit(0)
    except KeyboardInterrupt:
        _note(file, Ending(130, "interrupted"))
        say("interrupted", file=sys.stderr)
        sys.exit(130)
    except BaseException as error:  # a library in Rust panics with what is no Exception
        if with_traceback:
            traceback.print_exception(error)
        line, status = line_of(error, settings)
        line = " ".join(line.split())
        everywhere = (status == 1 and line != ANOTHER_ENDED) or lacks_memory(error)  # which another process may have
        _note(file, Ending(status, line), everywhere=everywhere)
        say(line, file=sys.stderr, everywhere=everywhere)
        sys.exit(status)
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


def line_of(error: BaseException, settings: Collection[str] = ()) -> tuple[str, int]:
    """What is said of an exception in a command with these settings, and the status to end with.

    >>> line_of(InputError("data.jsonl: no such file"))
    ('data.jsonl: no such file', 2)
    >>> line_of(OSError(13, "Permission denied", "runs/sft-1"))
    ('runs/sft-1: Permission denied', 2)
    """
    if lacks_memory(error):
        return _say_no_memory(error, settings), 2
    if isinstance(error, InputError):
        return str(error), 2
    if full := describe_full_disk(error):
        return _say_full(full, error), 2
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{os.fsdecode(error.filename) if not isinstance(error.filename, int) else ''}: {error.strerror}", 2
    if isinstance(error, RuntimeError) and any(words in str(error) for words in LOST):
        return ANOTHER_ENDED, 1
    reason = on_one_line(error, MOST_LETTERS)
    said = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"a fault of the program, not of what it was given: {said}{_place(error)}: {TRACEBACK} shows all of it", 1


def say(line: str, file: TextIO | None = None, *, everywhere: bool = False) -> None:
    """Prints a line in the main process only, or `everywhere`; what cannot be encoded as its number."""
    if everywhere or is_main_process():
        file = file or sys.stdout
        encoding = file.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def is_main_process() -> bool:
    """Whether this process says what all of its launch would, by the launcher's number of it or by Slurm's."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


def _note(file: Path | None, ending: Ending, *, everywhere: bool = False) -> None:
    if everywhere or is_main_process():
        write_ending(file, ending)


def _end_in_order(number: int, _frame: FrameType | None) -> NoReturn:
    """Ends the process on a signal as an exception would: what is half written is taken away."""
    say(f"ended by {signal.Signals(number).name}", file=sys.stderr)
    sys.exit(128 + number)


def _say_full(full: str, error: BaseException) -> str:
    """A full disk where the file that it was for may not be known."""
    name = getattr(error, "filename", None)
    place = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else Path.cwd()
    return f"{place}: {full}: more bytes are needed than the {free_bytes(place):,} that are free: make room"


def _say_no_memory(error: BaseException, settings: Collection[str]) -> str:
    """What did not fit, what the process holds and may hold, and what takes less."""
    found = str(error)
    if not isinstance(error, InputError):
        asked = re.search(r"([\d.]+) (bytes|[KMG]i?B)\b", found)
        place = "memory of the GPU" if "CUDA" in found else "memory"
        more = f"{_with_commas(asked[1])} {asked[2]} more are" if asked else "more is"
        found = f"{place}: {more} not to be had{' for a thread' if 'hread' in found else ''}, expected room for it"
    advice = [words for name, words in LESS_MEMORY.items() if name in settings]
    advice += [SHARED] if "base_bits" in settings else []
    saved = "; a run that saved a checkpoint goes on from it with --resume" if "resume" in settings else ""
    smaller = ", ".join(advice) or "a smaller model, shorter texts, smaller batches"
    return f"{found} beside {_held()}: take {smaller}, or a machine that has more{saved}"


def _with_commas(number: str) -> str:
    return f"{int(number):,}" if number.isdigit() else number


def _held() -> str:
    """What this process has held at most, and what it is allowed."""
    try:
        import resource
    except ImportError:  # Windows
        return "what this process holds"
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    limits = [(words, resource.getrlimit(getattr(resource, name))[0]) for name, words in LIMITS.items()]
    allowed = [f"`{words}` allows {limit:,} bytes" for words, limit in limits if limit != resource.RLIM_INFINITY]
    return f"the {kilobytes * 1024:,} bytes that this process held" + (f" ({', '.join(allowed)})" if allowed else "")


def _place(error: BaseException) -> str:
    """The line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
