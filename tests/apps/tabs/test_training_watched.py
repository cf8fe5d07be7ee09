"""A browser that is closed and opened while a run trains: what it shows again how soon, and what watching costs."""

import json
import time
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from playwright.sync_api import expect

from apps.running import run_views
from apps.running.run_views import SECONDS_BETWEEN_DRAWINGS, Drawings

LINES = [json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) for n in range(40)]
SECONDS_WATCHED = 20
ATTACHED_MILLISECONDS = 2_000


def test_a_curve_is_drawn_anew_only_after_a_while_or_when_a_run_has_another_state(monkeypatch):
    drawn: list[str] = []
    now = [0.0]

    def plot(runs) -> str:
        drawn.append(runs[0].state)
        return "data:"

    monkeypatch.setattr(run_views, "plot", plot)
    drawings = Drawings(lambda: now[0])
    states: list[Any] = [SimpleNamespace(name="a", label="", state=state) for state in ("running", "succeeded")]
    running, ended = states
    first = [drawings.of([running]) for _ in range(3)]
    now[0] = SECONDS_BETWEEN_DRAWINGS
    assert {*first, drawings.of([running]), drawings.of([ended])} == {first[0]}
    assert drawn == ["running", "running", "succeeded"]


@pytest.mark.long
def test_a_page_opened_anew_shows_curve_and_log_at_once_and_watching_costs_a_training_little(visit, served):
    page = visit.page
    visit.open_tab("Runs")
    page.click("#start-run > button")
    page.click("#supervised-settings > button")
    page.fill("#supervised-pasted textarea", "\n".join(LINES))
    page.fill("#supervised-name input, #supervised-name textarea", "watched")
    for name, value in (("max_steps", "100000"), ("new_tokens", "0"), ("evaluation_steps", "0")):
        page.fill(f"#supervised-{name} input", value)
    page.click("#supervised-start")
    expect(page.locator("#run-plot img")).to_be_visible(timeout=240_000)
    server, spent = psutil.Process(served.process), {}
    for what in ("watched", "closed", "watched again"):
        if what == "closed":
            page.goto("about:blank")
        elif what == "watched again":
            page.goto(served.address)
            page.wait_for_selector("#prompt textarea")
            began = time.monotonic()
            visit.open_tab("Runs")
            expect(page.locator("#run-plot img")).to_be_visible(timeout=ATTACHED_MILLISECONDS)
            page.wait_for_function("document.querySelector('#run-log textarea').value.length > 20")
            attached = time.monotonic() - began
        before = sum(server.cpu_times()[:2])
        time.sleep(SECONDS_WATCHED)
        spent[what] = (sum(server.cpu_times()[:2]) - before) / SECONDS_WATCHED
    page.click("#cancel-run")
    expect(page.locator("#run-details")).to_contain_text("cancelled")
    print(f"curve and log after {attached:.2f} s; the server's share of a core: {spent}")
    assert attached <= ATTACHED_MILLISECONDS / 1000
    assert visit.errors == []
