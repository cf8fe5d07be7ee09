"""The process in which a chat template is tried: python template_probe.py SECONDS BYTES CHARACTERS < asked.json.

It prints what is wrong, or nothing. It imports nothing of the project: it has to start at once.
"""

import json
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ASKED = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
RAISES = "raises "
"""How what is said of a template begins that only refuses what it is asked."""


class Generation(Extension):
    """`{% generation %}` marks what an assistant says; here it is plain text."""

    tags: set[str] = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Any) -> Any:
        """What stands between the marks."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def main() -> None:
    """Tries the template that is read from standard input."""
    seconds, most_bytes, most_characters = map(int, sys.argv[1:])
    asked = json.load(sys.stdin)
    _limit(seconds, most_bytes)
    try:
        found = _find_fault(compiled(asked["template"]), asked["given"], most_characters)
    except MemoryError:
        found = f"takes more than {most_bytes >> 20:,} MB of memory"
    except Exception as error:  # whatever a template raises
        found = f"{RAISES}{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    print(found)


def _find_fault(template: Any, given: dict[str, Any], most_characters: int) -> str:
    for prompt in (False, True):
        length = 0
        for part in template.generate(messages=ASKED, add_generation_prompt=prompt, tools=None, **given):
            length += len(part)
            if length > most_characters:
                return f"writes more than {most_characters:,} characters for two short messages"
    return ""


def compiled(template: str) -> Any:
    """The template in a sandbox like that of `transformers.utils.chat_template_utils`, which takes long to import."""

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


def _limit(seconds: int, most_bytes: int) -> None:
    with suppress(ImportError):  # Windows; the time to wait is limited there all the same
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


if __name__ == "__main__":
    main()
