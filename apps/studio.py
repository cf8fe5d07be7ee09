"""Shows models side by side in the browser, token by token, and serves OpenAI's API beside the page.

    python -m apps.studio
    python -m apps.studio --base openai-community/gpt2 --tuned runs/sft-2 --port 8001
    python -m apps.studio --tuned runs/sft-1 --models smollm2 --servers http://127.0.0.1:8080/v1

With no argument it opens the newest finished run under `runs/` beside the base that the run was started from, and where
there is none the base that ships with the project. Nothing leaves this machine, but to a server that is named: the page
listens on 127.0.0.1 and brings its own fonts and scripts.
"""

from pathlib import Path

from apps.guarding.reach import check_reach
from apps.studio_settings import StudioSettings
from configs import run_entry


def main(settings: StudioSettings) -> None:
    """Chooses the models, then listens until it is asked to end."""
    check_reach(settings.host, settings.port, Path(settings.folder))
    from apps.service_server import run_server
    from apps.studio_models import choose

    chosen = choose(settings)
    run_server(chosen.settings, chosen)


if __name__ == "__main__":
    run_entry(main, StudioSettings)
