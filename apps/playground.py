"""Shows two models side by side in the browser.

    python -m apps.playground
    python -m apps.playground --base openai-community/gpt2 --tuned runs/sft-2 --port 8001
    python -m apps.playground --base smollm2 --tuned http://127.0.0.1:8000/v1

With no argument it opens the newest finished run under `runs/` beside the base that the run was started from. Nothing
leaves this machine, but to a server that is named: the page listens on 127.0.0.1 and brings its own fonts and scripts.
"""

import re
from dataclasses import dataclass, field

from apps.guarding.hosts import check_address
from configs import InputError, run_entry
from finetune.replies.side_settings import SideSettings

HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+")


@dataclass(frozen=True, kw_only=True)
class PlaygroundSettings(SideSettings):
    """Two models in the browser."""

    base: str | None = None
    """A run, folder, Hub name, GGUF file, adapter, or server (`http://127.0.0.1:8000/v1#model`), or `embedded`; by
    default what the other's run was started from."""
    tuned: str | None = None
    """The model to show beside it, named in the same ways; by default the newest finished run."""
    port: int = 7860
    """Port that the page is served on."""
    host: str = "127.0.0.1"
    """Address that the page is served on; any other than 127.0.0.1 lets other machines in, without a password."""
    allowed_hosts: str | list[str] = field(default_factory=list)
    """Other names that the page is opened under, as a browser's address line has them, such as that of a proxy before
    it; by default `localhost`, `host`, and for other machines the name and the address of this one. What names another
    host is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.port <= 65535:
            raise InputError(f"port: found {self.port}, expected a number from 1 to 65535")
        for name in self.names:
            if not HOST_NAME.fullmatch(name):
                raise InputError(f"allowed_hosts: found {name!r}, expected a host's name without scheme and port")

    @property
    def names(self) -> list[str]:
        """`allowed_hosts` as a list."""
        return [self.allowed_hosts] if isinstance(self.allowed_hosts, str) else self.allowed_hosts


def main(settings: PlaygroundSettings) -> None:
    """Chooses and loads both models, lays out the page, serves it."""
    from apps.page import build_page, serve
    from apps.pair import Pair, choose_names, read_examples
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    check_address(settings.host, settings.port)
    names = choose_names(settings.base, settings.tuned)
    examples = read_examples(names.tuned)
    page = build_page(Pair(names, settings), examples)
    serve(page, settings.host, settings.port, settings.names)


if __name__ == "__main__":
    run_entry(main, PlaygroundSettings)
