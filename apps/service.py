"""Serves fine-tuning jobs, extensions of vocabularies and the models themselves behind OpenAI's API.

    python -m apps.service --models smollm2
    python -m apps.service --models base=openai-community/gpt2 --port 8080 --folder service
    python -m apps.service keys --add alice --may train

Point any client of OpenAI's at http://127.0.0.1:8000/v1. Jobs wait in a queue on the disk and run as processes of their
own: they outlive the server. Nothing leaves this machine. With an address that other machines reach, keys are needed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from apps.guarding.reach import check_reach
from apps.service_settings import KeysSettings, ServiceSettings
from configs import run_entry
from finetune.service.keys import KeyBook

KEYS = "keys"


def serve(settings: ServiceSettings) -> None:
    """Listens until it is asked to end."""
    check_reach(settings.host, settings.port, Path(settings.folder))
    from apps.service_server import run_server

    run_server(settings)


def manage_keys(settings: KeysSettings) -> None:
    """Adds, removes or lists keys."""
    book = KeyBook(Path(settings.folder))
    if settings.add is not None:
        secret = book.add(settings.add, settings.may)
        print(f"Key of {settings.add}, which may {settings.may}. It is shown this once:\n{secret}")
    elif settings.remove is not None:
        book.remove(settings.remove)
        print(f"Removed: {settings.remove}")
    else:
        for key in book.all():
            print(f"{key.name}\t{key.may}\t{key.id}")
        if not book.all():
            print("No keys: every request of this machine is taken. python -m apps.service keys --add NAME --may train")


def _main(arguments: Sequence[str]) -> None:
    if arguments[:1] != [KEYS]:
        run_entry(serve, ServiceSettings)
    else:
        del sys.argv[1]
        run_entry(manage_keys, KeysSettings)


if __name__ == "__main__":
    _main(sys.argv[1:])
