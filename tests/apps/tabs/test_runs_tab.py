"""The Runs tab in a browser: a run is started from the form, watched, refused with words, and found after a reload."""

import json

import pytest
from playwright.sync_api import expect

LINES = [json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) for n in range(40)]


def _open_form(visit) -> None:
    visit.open_tab("Runs")
    visit.page.click("#start-run > button")
    visit.page.click("#supervised-settings > button")


def test_what_a_form_cannot_mean_is_refused_in_words(visit):
    page = visit.page
    _open_form(visit)
    page.click("#supervised-start")
    expect(page.get_by_text("data: found neither of a file and pasted lines")).to_be_visible()
    page.fill("#supervised-pasted textarea", "\n".join([*LINES, '{"question": 5}']))
    page.click("#supervised-start")
    expect(page.get_by_text("pasted.jsonl:41: keys are")).to_be_visible()
    page.fill("#supervised-pasted textarea", "\n".join(LINES))
    page.fill("#supervised-name input, #supervised-name textarea", "sums <b>1</b>")
    page.click("#supervised-start")
    expect(page.get_by_text("name: found 'sums <b>1</b>', expected letters")).to_be_visible()
    page.fill("#supervised-name input, #supervised-name textarea", "sums")
    page.fill("#supervised-max_steps input", "-3")
    page.click("#supervised-start")
    expect(page.get_by_text("max_steps: found -3, expected at least 1")).to_be_visible()
    assert visit.errors == []


@pytest.mark.long
def test_a_run_is_started_watched_found_again_and_cancelled(visit):
    page = visit.page
    _open_form(visit)
    page.fill("#supervised-pasted textarea", "\n".join(LINES))
    page.fill("#supervised-name input, #supervised-name textarea", "sums")
    page.fill("#supervised-max_steps input", "100000")
    page.fill("#supervised-new_tokens input", "0")
    page.fill("#supervised-evaluation_steps input", "0")
    page.click("#supervised-start")
    expect(page.locator("#runs")).to_contain_text("sums (ftjob-")
    expect(page.locator("#run-details")).to_contain_text("running")
    expect(page.locator("#run-details")).to_contain_text("tokens/s", timeout=240_000)  # it has taken a step
    expect(page.locator("#run-plot img")).to_be_visible()
    page.wait_for_function("document.querySelector('#run-log textarea').value.length > 20")
    page.reload()
    visit.open_tab("Runs")
    expect(page.locator("#runs")).to_contain_text("sums (ftjob-")
    expect(page.locator("#run-details")).to_contain_text("running")
    page.click("#cancel-run")
    expect(page.locator("#run-details")).to_contain_text("cancelled")
    page.click("#pause-run")
    expect(page.get_by_text("cannot be paused").or_(page.get_by_text("is cancelled"))).to_be_visible()
    assert visit.errors == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth === 390")
