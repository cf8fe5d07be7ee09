"""The library that counts calls which change a file."""

from pathlib import Path

import pytest

from tests.reliability.counted_calls import build_library


@pytest.fixture(scope="session")
def file_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`file_events.so`; skips the test where it cannot be made."""
    library = build_library(tmp_path_factory.mktemp("library"))
    if library is None:
        pytest.skip("counting calls in front of the C library needs Linux and a C compiler")
    return library
