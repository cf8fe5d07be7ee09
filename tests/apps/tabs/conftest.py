"""The studio in a browser."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.apps.served import Served

CHROMIUM = shutil.which("chromium")
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # root's chromium refuses to start in its sandbox
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@dataclass
class Visit:
    """An open page, and what it reported and asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def open_tab(self, name: str) -> None:
        """Chooses a tab."""
        self.page.get_by_role("tab", name=name).click()


@pytest.fixture
def visit(browser, served: Served) -> Iterator[Visit]:
    """The page on a desktop."""
    visit = Visit(browser.new_page(viewport={"width": 1280, "height": 900}))
    visit.page.set_default_timeout(60_000)
    visit.page.on("console", lambda message: visit.errors.extend([message.text] * (message.type == "error")))
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("request", lambda request: visit.addresses.append(request.url))
    visit.page.goto(served.address)
    visit.page.wait_for_selector("#prompt textarea")
    yield visit
    visit.page.close()
