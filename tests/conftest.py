"""What holds for every test: no network; one thread a process, as tests run beside each other; who may try again."""

import gc
import os

import pytest

# Before anything imports torch, tokenizers or huggingface_hub, which read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

TIMED_FIXTURES = {"browser", "visit", "served", "service"}
TIMED_FOLDER = "tests/finetune/runs/"


def pytest_collection_finish() -> None:
    """Leaves out what was imported, which stays, wherever garbage is collected later, and in forked processes."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs once more, where it fails, what waits for a browser or for processes that others end.

    How fast either comes along is the machine's. The claim has to hold the second time, and `make test` names each.
    """
    for item in items:
        if TIMED_FIXTURES & set(getattr(item, "fixturenames", ())) or item.nodeid.startswith(TIMED_FOLDER):
            item.add_marker(pytest.mark.flaky(reruns=1))
