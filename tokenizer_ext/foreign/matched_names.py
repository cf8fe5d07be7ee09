"""Patterns of a foreign file matched against the names of modules in a process of its own, which a limit ends."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from configs import InputError

SECONDS = 2
"""Of work; a busy machine may wait for longer."""
PLAIN = re.compile(r"[\w.$^\\-]*")
"""A pattern that repeats nothing cannot run away."""
MATCH = """
import json, re, sys
seconds = int(sys.argv[1])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
except ImportError:  # Windows; the time to wait is limited there all the same
    pass
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    for name in names:
        re.fullmatch(pattern, name), re.match(pattern, name)
"""


def check_patterns(patterns: Sequence[str], names: Sequence[str], where: Path) -> None:
    """Refuses patterns that are none, or that take long to match any of these names; `where` is their file.

    Raises:
        InputError: one of them.

    """
    repeating = [pattern for pattern in patterns if not PLAIN.fullmatch(pattern)]
    if not repeating:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", MATCH, str(SECONDS)],
            input=json.dumps([repeating, list(names)]),
            capture_output=True,
            text=True,
            timeout=6 * SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:
        raise InputError(
            f"{where}: its pattern {repeating[0][:60]!r} does not match the names of the modules within {SECONDS} "
            "seconds, expected the names of layers: get the adapter anew"
        )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2][:120]
        raise InputError(f"{where}: its pattern {repeating[0][:60]!r} is none ({reason}): get the adapter anew")
