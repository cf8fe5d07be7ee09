"""Shows models side by side in the browser, token by token, and serves OpenAI's API beside the page.

    python -m apps.studio
    python -m apps.studio --base openai-community/gpt2 --tuned runs/sft-2 --port 8001
    python -m apps.studio --tuned runs/sft-1 --models smollm2 --servers http://127.0.0.1:8080/v1

With no argument it opens the newest finished run under `runs/` beside the base that the run was started from, and where
there is none the base that ships with the project. Nothing leaves this machine, but to a server that is named: the page
listens on 127.0.0.1 and brings its own fonts and scripts.
"""

from dataclasses import dataclass, field

from apps.service import check_reach
from apps.service_settings import ServiceSettings
from configs import run_entry


@dataclass(frozen=True, kw_only=True)
class StudioSettings(ServiceSettings):
    """The studio, and the service behind it."""

    base: str | None = None
    """A run, folder, Hub name, GGUF file, adapter, or `embedded`; by default what the other's run was started from."""
    tuned: str | None = None
    """The model to show beside it, named in the same ways; by default the newest finished run."""
    models: str | list[str] = field(default_factory=list)
    """Other models that can be chosen, named in the same ways, or NAME=one of these."""
    servers: str | list[str] = field(default_factory=list)
    """Servers of OpenAI's API whose models can be chosen too, such as `http://127.0.0.1:8000/v1#model`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the API key of those servers; need not be set where they ask for none."""
    port: int = 7860
    """Port to listen on."""


def main(settings: StudioSettings) -> None:
    """Chooses the models, then listens until it is asked to end."""
    check_reach(settings)
    from apps.service_server import run_server
    from apps.studio_models import choose

    chosen = choose(settings)
    run_server(chosen.settings, chosen)


if __name__ == "__main__":
    run_entry(main, StudioSettings)
