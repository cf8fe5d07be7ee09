"""A chat template tried in a process of its own before it runs in ours: it is code that came with a model.

transformers runs templates in jinja2's sandbox, which keeps them from files and from Python; nothing there ends a
template that loops or that fills the memory. The trial has a limit of time, of memory and of text.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any

from configs import InputError

SECONDS = 5
MOST_BYTES = 1 << 30
MOST_CHARACTERS = 1_000_000
ASKED = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
CHILD = "from finetune.templates.trial import run; run()"


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


@cache
def _try(given: str) -> str:
    """What is wrong with a template, or nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=given,
            capture_output=True,
            text=True,
            timeout=12 * SECONDS,  # of waiting, which a busy machine may need; the limit below is of work
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {12 * SECONDS} seconds"
    return done.stdout.strip().rpartition("\n")[2] if done.returncode == 0 else _why_it_ended(done)


def run() -> None:
    """The trial itself: prints what is wrong with the template that is read from standard input, or nothing."""
    asked = json.load(sys.stdin)
    _limit()
    try:
        template = _compile(asked["template"])
        for prompt in (False, True):
            length = 0
            for part in template.generate(messages=ASKED, add_generation_prompt=prompt, tools=None, **asked["given"]):
                length += len(part)
                if length > MOST_CHARACTERS:
                    print(f"writes more than {MOST_CHARACTERS:,} characters for two short messages")
                    return
    except MemoryError:
        print(f"takes more than {MOST_BYTES >> 20:,} MB of memory")
    except Exception as error:  # whatever a template raises
        print(f"raises {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _limit() -> None:
    with suppress(ImportError):  # Windows; the time to wait is limited there all the same
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def _why_it_ended(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"does not end within {SECONDS} seconds of work"
    last = done.stderr.strip().rpartition("\n")[2]
    return f"could not be tried ({last[:200] or f'exit status {done.returncode}'})"


def _compile(template: str) -> Any:
    """The template in a sandbox like that of `transformers.utils.chat_template_utils`, which takes long to import."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant says; here it is plain text."""

        tags: set[str] = {"generation"}  # noqa: RUF012 - jinja2 declares it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    return environment.from_string(template)
