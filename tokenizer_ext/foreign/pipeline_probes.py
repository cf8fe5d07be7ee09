"""The process in which a foreign tokenizer is tried: python pipeline_probes.py tokenizer.json SECONDS.

It prints what is wrong, or nothing. The texts are those that patterns stumble over: runs of whatever a pattern itself
names, which end as it does not expect. It imports nothing of the project: it has to start at once.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Any

MOST_BYTES = 4 << 30
"""Of addresses, more of which the library takes than it uses."""
MOST_GROWTH = 64
PLAIN = ["Hello, world! It's 2026.\n\n  été 東京 한국 🙂 \t x", *(3000 * run for run in ("a", " ", "1", "a1 ", "\n"))]
MEANT = {"s": " ", "d": "1", "w": "a", "L": "é", "N": "7", "p": "é", ".": "a", "S": "b", "W": "!", "D": "a", "P": "!"}
"""A letter that a class of letters stands for."""
ENDS = ("!", "\x01", "a", " ")


def main() -> None:
    """Tries the tokenizer that the command line names."""
    file, seconds = Path(sys.argv[1]), int(sys.argv[2])
    _limit(seconds)
    try:
        found = _find_fault(file.read_text(encoding="utf-8"))
    except MemoryError:
        found = f"takes more than {MOST_BYTES >> 20:,} MB of memory"
    except BaseException as error:  # the library panics with exceptions that are no Exception
        found = f"fails ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
    print(found)


def _find_fault(text: str) -> str:
    from tokenizers import Tokenizer

    content = json.loads(text)
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for probe in [*PLAIN, *_probes(content)]:
        most = MOST_GROWTH * len(probe) + 1000
        if tokenizer.normalizer is not None and len(tokenizer.normalizer.normalize_str(probe)) > most:
            return f"makes more than {MOST_GROWTH} letters of one"
        ids = tokenizer.encode(probe).ids
        if len(ids) > most:
            return f"makes more than {MOST_GROWTH} tokens of one letter"
        if len(tokenizer.decode(ids)) > most:
            return f"makes more than {MOST_GROWTH} letters of one, reading them back"
    return ""


def _probes(content: dict[str, Any]) -> Iterator[str]:
    """Runs of what the patterns name, with an end that they may not expect."""
    letters = list(dict.fromkeys(letter for pattern in _patterns(content) for letter in _letters(pattern)))[:24]
    ends = [*ENDS, "\x01" + "".join(letters)]  # a library looks first whether what has to come is there at all
    runs = [*letters, *("".join(pair) for pair in permutations(letters[:8], 2))]
    for run in runs:
        for end in ends:
            yield 40 * run + end
    for letter in letters:
        yield 3000 * letter + "!"


def _patterns(part: Any) -> Iterator[str]:
    """Every pattern of the pipeline, and every text that a stage replaces or writes."""
    if isinstance(part, list):
        for one in part:
            yield from _patterns(one)
    elif isinstance(part, dict):
        for name, one in part.items():
            if name in ("Regex", "String", "content", "prepend") and isinstance(one, str):
                yield one
            elif name not in ("model", "added_tokens"):
                yield from _patterns(one)


def _letters(pattern: str) -> list[str]:
    """The letters that a pattern names, or a letter of the classes that it names."""
    classes = [MEANT[name] for name in re.findall(r"\\([sdwSWDpP])", pattern)] + [
        "a" for _ in re.findall(r"\.", pattern)
    ]
    plain = re.sub(r"\\[pP]\{[^}]*\}|\\.|\(\?[:=!<>a-z]+", "", pattern)
    return [*classes, *(letter for letter in plain if letter not in "()[]{}*+?|^$.\\")]


def _limit(seconds: int) -> None:
    with suppress(ImportError):  # Windows; the time to wait is limited there all the same
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
