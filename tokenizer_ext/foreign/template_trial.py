"""A chat template tried in a process of its own before it runs in ours: it is code that came with a model.

transformers runs templates in jinja2's sandbox, which keeps them from files and from Python; nothing there ends a
template that loops or that fills the memory. The trial has a limit of time, of memory and of text.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from configs import InputError
from tokenizer_ext.foreign.template_probe import RAISES

SECONDS = 3
MOST_BYTES = 1 << 29
MOST_CHARACTERS = 1_000_000
PROBE = Path(__file__).with_name("template_probe.py")


def try_template(template: str, special_tokens: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Renders a short conversation where the template can do no harm.

    Raises:
        InputError: it raises, does not end, or writes without end.

    """
    found = _try(json.dumps({"template": template, "given": {**special_tokens, **options}}, default=str))
    if found:
        raise InputError(
            f"chat template: {found}, expected one that renders a short conversation: mend it, or pass --chat graft"
        )


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Writes a tokenizer whose chat templates were tried.

    Raises:
        InputError: as `check_templates`.

    """
    check_templates(tokenizer)
    tokenizer.save_pretrained(folder)


def check_templates(tokenizer: PreTrainedTokenizerBase) -> None:
    """Tries every chat template of a tokenizer that is to leave here, for it is opened elsewhere.

    One that only refuses a short conversation may leave: it is of no use, and does no harm.

    Raises:
        InputError: a template does not end, or writes without end.

    """
    templates = tokenizer.chat_template or {}
    for template in templates.values() if isinstance(templates, Mapping) else [templates]:
        found = _try(json.dumps({"template": template, "given": tokenizer.special_tokens_map}, default=str))
        if found and not found.startswith(RAISES):
            raise InputError(
                f"chat template of {tokenizer.name_or_path or 'the tokenizer'}: {found}, expected one that renders a "
                "short conversation, so it is not saved: take it out of the base's folder"
            )


@cache
def _try(given: str) -> str:
    """What is wrong with a template, or nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(PROBE), str(SECONDS), str(MOST_BYTES), str(MOST_CHARACTERS)],
            input=given,
            capture_output=True,
            text=True,
            timeout=6 * SECONDS,  # of waiting, which a busy machine may need; the limit there is of work
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {6 * SECONDS} seconds"
    return done.stdout.strip().rpartition("\n")[2] if done.returncode == 0 else _why_it_ended(done)


def _why_it_ended(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"does not end within {SECONDS} seconds of work"
    last = done.stderr.strip().rpartition("\n")[2]
    return f"could not be tried ({last[:200] or f'exit status {done.returncode}'})"
