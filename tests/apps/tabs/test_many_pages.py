"""Ten pages of one browser, and a page that is closed in the middle of a reply."""

import re
import time

import httpx
import pytest
from playwright.sync_api import expect

PAGES = 10
SECONDS_TO_STOP = 1.0


def ask(page, prompt: str, tokens: int) -> None:
    """Types and sends a prompt."""
    page.click("#settings button")
    page.locator("#tokens input[type=number]").fill(str(tokens))
    page.locator("#tokens input[type=number]").blur()
    page.fill("#prompt textarea", prompt)
    page.press("#prompt textarea", "Enter")


def rows(address: str) -> int:
    """Replies that are being decoded or wait."""
    return sum(one["rows"] + one["waiting"] for one in httpx.get(f"{address}readyz", timeout=10).json()["batches"])


@pytest.mark.long
def test_the_last_of_ten_pages_in_one_browser_is_answered(browser, served):
    context = browser.new_context()
    pages = [context.new_page() for _ in range(PAGES)]
    for page in pages:
        page.set_default_timeout(120_000)
        page.goto(served.address)
        page.wait_for_selector("#prompt textarea")
    for number, page in enumerate(pages):
        ask(page, f"question {number}", 20)
    for number, page in enumerate(pages):
        expect(page.locator("#now-0")).to_contain_text(f"question {number}", timeout=120_000)
        expect(page.locator("#now-1 .status")).to_contain_text(re.compile("tokens/s"), timeout=120_000)
    context.close()


@pytest.mark.long
def test_a_page_that_is_closed_ends_its_replies(browser, served):
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(served.address)
    page.wait_for_selector("#prompt textarea")
    ask(page, "go on", 1024)
    page.wait_for_function("document.querySelector('#now-0 .said')?.innerText.length > 20")
    assert rows(served.address)
    page.close()
    closed = time.monotonic()
    while rows(served.address):
        assert time.monotonic() - closed < 30
        time.sleep(0.02)
    print(f"ended {time.monotonic() - closed:.2f} s after the page was closed")
    assert time.monotonic() - closed <= SECONDS_TO_STOP
