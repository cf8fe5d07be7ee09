"""Takes the pictures of docs/studio.md of a studio that is open.

python -m apps.studio --base smollm2 --tuned runs/sft-1 &
python -m tests.apps.screenshots --url http://127.0.0.1:7860
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from configs import InputError, run_entry

TABS = ("Compare", "Difference", "Tokens", "Extend", "Runs", "Vote", "Inside")
WIDTH, HEIGHT = 1280, 900
QUESTION = "What is a tensor? Answer in one sentence, then show one in Python."


@dataclass(frozen=True, kw_only=True)
class ScreenshotSettings:
    """Which studio, and where the pictures go."""

    url: str = "http://127.0.0.1:7860"
    """Where the studio is open."""
    output_dir: str = "docs/images"
    """Folder for `studio_<tab>.png`."""
    seconds: float = 120.0
    """How long a reply may take."""


def main(settings: ScreenshotSettings) -> None:
    """Opens every tab, has Compare reply, and takes a picture of each."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise InputError("chromium: is not installed, expected Debian's: apt-get install chromium")
    folder = Path(settings.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(settings.url)
        _compare(page, settings.seconds)
        for tab in TABS:
            page.get_by_role("tab", name=tab, exact=True).first.click()
            page.wait_for_timeout(3000)
            page.screenshot(path=folder / f"studio_{tab.lower()}.png")
            print(f"Saved: {folder / f'studio_{tab.lower()}.png'}")
        browser.close()


def _compare(page: Any, seconds: float) -> None:
    page.wait_for_selector("#prompt textarea")
    page.fill("#prompt textarea", QUESTION)
    page.press("#prompt textarea", "Enter")
    page.wait_for_selector("#proof-1 :text('sha256')", timeout=1000 * seconds)


if __name__ == "__main__":
    run_entry(main, ScreenshotSettings)
