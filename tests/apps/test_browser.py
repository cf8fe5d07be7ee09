"""The page in a browser: both panes fill, stop stops, model output stays text, nothing comes from elsewhere."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.apps.sent_by_hand import asking_index, empty_queue, fill_queue
from tests.apps.served import MARKUP, Served

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")

expect.set_options(timeout=60_000)
BASE, ASSISTANT = "#base textarea", "#assistant textarea"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
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

    def ask(self, prompt: str, maximum_tokens: int) -> None:
        """Asks both models greedily."""
        self.page.get_by_label("number input for Temperature").fill("0")
        self.page.get_by_label("number input for Maximum tokens").fill(str(maximum_tokens))
        self.page.fill("#prompt textarea", prompt)
        self.page.click("#ask")


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


def test_both_panes_fill_with_text_whatever_markup_it_holds_and_nothing_comes_from_elsewhere(visit, served):
    page = visit.page
    assert page.title() == "sft-7 beside tiny-base"
    page.get_by_text("What does abs do?").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('abs(x)')")
    visit.ask("what is abs?", maximum_tokens=150)
    expect(page.locator("#base-status")).to_contain_text("150 tokens · ")
    expect(page.locator("#base-status")).to_contain_text("length: limit of 150 tokens")
    expect(page.locator("#assistant-status")).to_contain_text(re.compile(r"\d+ tokens? · .* · (end of turn|length)"))
    assert MARKUP in page.input_value(BASE)
    assert page.input_value(ASSISTANT)
    assert page.locator("img[src=x]").count() == 0
    page.fill("#prompt textarea", " ")
    page.click("#ask")
    expect(page.get_by_text("prompt: is empty")).to_be_visible()
    expect(page.locator("#ask")).to_be_enabled()
    assert visit.errors == []
    assert {urlsplit(address).hostname for address in visit.addresses} == {"127.0.0.1"}
    assert served.outside.read_text() == ""


def test_under_each_pane_stands_what_it_is_and_each_can_be_asked_in_plain_text(visit, folders):
    page = visit.page
    base, run = folders
    expect(page.locator("#base-badge")).to_have_text(re.compile(rf"{base} · sha256 [0-9a-f]{{12}} · no chat format"))
    expect(page.locator("#assistant-badge")).to_have_text(re.compile(rf"{run} · sha256 .* · Graft's chat format"))
    expect(page.locator("#base-format")).to_contain_text("It has no chat format, so it continues a text.")
    expect(page.locator("#assistant-format")).not_to_contain_text("no chat format")
    page.click("#assistant-format input")
    page.get_by_role("option", name="Raw completion of the prompt").click()
    visit.ask("what is abs?", maximum_tokens=5)
    expect(page.locator("#assistant-status")).to_contain_text(re.compile("length: limit of 5 tokens|end of text"))
    assert visit.errors == []


def test_stop_ends_a_long_reply_and_both_can_be_asked_again(visit):
    page = visit.page
    visit.ask("what is abs?", maximum_tokens=1024)
    page.wait_for_function(f"document.querySelector('{BASE}').value.length > 20")
    page.locator("#stop").dispatch_event("click")  # a click would wait until the page stands still
    expect(page.locator("#base-status")).to_contain_text("stopped")
    stopped = page.inner_text("#base-status")
    assert int(stopped.split()[0]) < 1024
    page.wait_for_timeout(500)
    assert page.inner_text("#base-status") == stopped
    visit.ask("what is abs?", maximum_tokens=3)
    expect(page.locator("#base-status")).to_contain_text("limit of 3 tokens")
    assert visit.errors == []


def test_a_full_queue_is_said_and_both_can_be_asked_again(visit, served):
    page = visit.page
    index = asking_index(served)
    accepted, _ = fill_queue(served, index)
    visit.ask("what is abs?", maximum_tokens=3)
    expect(page.get_by_text("currently busy")).to_be_visible()
    expect(page.locator("#ask")).to_be_enabled()
    empty_queue(served, index, accepted)
    page.click("#ask")
    expect(page.locator("#base-status")).to_contain_text("limit of 3 tokens")


BOXES = """() => {
    const [base, assistant] = ["base", "assistant"].map((id) => document.getElementById(id).getBoundingClientRect());
    return %s;
}"""


def test_the_panes_stand_side_by_side_on_a_desktop_and_below_each_other_on_a_phone(visit):
    # The page is laid out anew as its styles and parts arrive: what is claimed must come to hold, and soon.
    page = visit.page
    beside = "base.y === assistant.y && base.width === assistant.width && base.right <= assistant.x"
    page.wait_for_function(BOXES % beside)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(BOXES % "base.width >= 300 && base.bottom <= assistant.y")
    page.wait_for_function("document.documentElement.scrollWidth === 390")
