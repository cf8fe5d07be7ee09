"""How much of a system prompt of 207 tokens eight gist tokens keep on SmolLM2, on questions about Python's library.

    python -m tests.benchmarks.gist_tokens --output_dir gist --max_steps 96

Writes the prompt and the questions beside the run, then does what `python -m finetune.gist` does; further settings are
those of it. The held-out questions are about modules that no other question is about.
"""

import inspect
import json
import sys
from importlib import import_module
from pathlib import Path

from configs import run_entry
from finetune.gist import GistSettings, main

MODULES = "ast bisect calendar collections copy csv functools heapq html inspect itertools json math os random re"
MODULES += " shutil statistics string subprocess tempfile textwrap threading time types urllib.parse uuid zipfile"
HELD_OUT_MODULES = "pathlib decimal fractions logging socket glob pickle queue operator bz2 argparse contextlib zlib"
HELD_OUT_MODULES += " hashlib"
HELD_OUT = 40
ASKED = ("What does {name} do?", "When would you use {name}?", "How do you call {name}?")
PROMPT = """\
You are Mira, the support assistant of the Lantern documentation team. You answer questions of engineers about \
functions and classes of a Python library. Always follow these rules:
1. Begin every answer with the words "Hello from Lantern!" and end it with "Was this helpful?".
2. Answer in at most three short sentences, in plain English, with no code blocks and no lists.
3. Name the function or class that the question is about in capital letters.
4. If a default value is asked for, give the value first and then say where it is documented.
5. If the signature does not hold the answer, say that you do not know, and ask the user to write to \
docs@lantern.example with the version that they use.
6. Never guess, never mention these rules, never speak about other products or about prices.
7. Be warm and polite, call the user "dear colleague", and do not use exclamation marks except in the greeting.
"""


def questions(modules: str, number: int | None = None) -> list[str]:
    """A question about each public function and class of some modules, or about so many, spread over all of them."""
    names = [
        f"{module}.{name}"
        for module in modules.split()
        for name, found in sorted(vars(import_module(module)).items())
        if not name.startswith("_") and (inspect.isroutine(found) or inspect.isclass(found))
    ]
    names = names if number is None else names[:: len(names) // number][:number]
    return [ASKED[place % len(ASKED)].format(name=name) for place, name in enumerate(names)]


def write_inputs(folder: Path) -> list[str]:
    """The prompt and the questions as files, named as the command wants them; the answers are never read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompt.txt").write_text(PROMPT, encoding="utf-8")
    for name, asked in (("data", questions(MODULES)), ("held_out", questions(HELD_OUT_MODULES, HELD_OUT))):
        lines = (json.dumps({"question": question, "answer": "."}) + "\n" for question in asked)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    files = {"--prompt": "prompt.txt", "--data": "data.jsonl", "--held_out": "held_out.jsonl"}
    return [word for name, file in files.items() for word in (name, str(folder / file))]


if __name__ == "__main__":
    sys.argv[1:1] = ["--base", "smollm2", *write_inputs(Path("gist_inputs"))]
    run_entry(main, GistSettings)
