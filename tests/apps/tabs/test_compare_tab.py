"""The Compare tab in a browser: sides reply, stop stops, a reload loses nothing, model output stays text."""

import json
import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

A, B = "#talk-0", "#talk-1"


def _ask(page, prompt: str, tokens: int) -> None:
    page.wait_for_load_state("networkidle")  # what the page takes back from the browser has come, once a page
    page.evaluate("document.activeElement.blur()")
    if not page.locator("#tokens input[type=number]").is_visible():
        page.click("#settings button")
    page.locator("#tokens input[type=number]").fill(str(tokens))
    page.locator("#tokens input[type=number]").blur()
    page.fill("#prompt textarea", prompt)
    page.press("#prompt textarea", "Enter")


def test_both_sides_reply_to_enter_whatever_markup_they_say_and_nothing_comes_from_elsewhere(visit, served):
    page = visit.page
    assert page.title() == "Graft: sft-7 beside tiny-base"
    page.get_by_role("button", name="What does abs do?").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('abs(x)')")
    page.fill("#prompt textarea", "one")
    page.press("#prompt textarea", "Shift+Enter")
    assert page.input_value("#prompt textarea") == "one\n"
    _ask(page, "what is <b>abs</b>?", tokens=150)
    expect(page.locator(A)).to_contain_text("150 tokens · first after")
    expect(page.locator(A)).to_contain_text("length: limit of 150 tokens")
    expect(page.locator(B)).to_contain_text(re.compile(r"\d+ tokens? · .* · (end of turn|length)"))
    expect(page.locator("#prompt textarea")).to_have_value("")
    said = page.inner_text(f"{A} .said")
    assert "<b>bold</b>" in said and "<img src=x onerror=alert(1)>" in said and "{{4}} ${5} 数 🙂" in said
    assert page.locator(f"{A} .said code").first.inner_text() == "2"  # Markdown is shown as such
    assert page.locator("img[src=x]").count() == 0 and page.locator(f"{A} b").count() == 0
    expect(page.locator("#proof-0")).to_have_text(re.compile(r"sha256 [0-9a-f]{12} · no adapter · no chat format"))
    page.press("#prompt textarea", "Enter")
    expect(page.get_by_text("prompt: is empty")).to_be_visible()
    expect(page.locator("#ask")).to_be_enabled()
    expect(page.locator("#stop")).to_be_disabled()
    assert visit.errors == []
    assert {urlsplit(address).hostname for address in visit.addresses} == {"127.0.0.1"}
    assert served.outside.read_text() == ""


@pytest.mark.long
def test_turns_follow_each_other_survive_a_reload_are_edited_linked_saved_and_kept(visit, served):
    page = visit.page
    for prompt in ("first question", "second question"):
        _ask(page, prompt, tokens=5)
        expect(page.locator("#now-0")).to_contain_text(prompt)
        expect(page.locator("#now-1")).to_contain_text("tokens/s")
        expect(page.locator("#ask")).to_be_enabled()
    page.reload()
    expect(page.locator("#past-0")).to_contain_text("first question")
    expect(page.locator("#past-1")).to_contain_text("second question")
    page.click("#keep-1")
    expect(page.get_by_text("Kept as line 1 of")).to_be_visible()
    row = json.loads((served.output.parent / "service" / "kept.jsonl").read_text())
    assert [one["role"] for one in row["messages"]] == ["user", "assistant"] * 2
    page.click("#exports button")
    with page.expect_download() as download:
        page.click("#save-jsonl")
    lines = [json.loads(line) for line in download.value.path().read_text(encoding="utf-8").splitlines()]
    assert [line["model"] for line in lines] == ["tiny-base", "sft-7"] and lines[1]["messages"] == row["messages"]
    page.click("#undo")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'second question'")
    expect(page.locator("#past-1")).not_to_contain_text("second question")
    page.click("#make-link")
    page.wait_for_function("document.querySelector('#link textarea, #link input').value.includes('?ask=')")
    link = page.input_value("#link textarea, #link input")
    page.click("#new")
    expect(page.locator("#past-1")).not_to_contain_text("first question")
    page.goto(link)
    page.wait_for_selector("#prompt textarea")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'second question'")
    assert visit.errors == []


@pytest.mark.long
def test_asked_again_with_the_next_seed_and_stopped(visit):
    page = visit.page
    _ask(page, "go on", tokens=1024)
    page.wait_for_function("document.querySelector('#talk-0 .said')?.innerText.length > 20")
    page.locator("#stop").dispatch_event("click")  # a click would wait until the page stands still
    expect(page.locator(A)).to_contain_text("stopped")
    stopped = page.inner_text("#now-0 .status")
    assert int(stopped.split()[0]) < 1024
    page.wait_for_timeout(500)
    assert page.inner_text("#now-0 .status") == stopped
    page.locator("#tokens input[type=number]").fill("3")
    page.locator("#tokens input[type=number]").blur()
    page.click("#again")
    expect(page.locator("#now-0")).to_contain_text("limit of 3 tokens")
    expect(page.locator("#seed input")).to_have_value("1")
    assert visit.errors == []


BOXES = """() => {
    const [a, b] = ["talk-0", "talk-1"].map((id) => document.getElementById(id).getBoundingClientRect());
    return %s;
}"""


@pytest.mark.long
def test_the_sides_stand_beside_each_other_on_a_desktop_and_below_each_other_on_a_phone(visit):
    # The page is laid out anew as its styles and parts arrive: what is claimed must come to hold, and soon.
    page = visit.page
    page.wait_for_function(BOXES % "a.y === b.y && a.width === b.width && a.right <= b.x && a.width > 500")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(BOXES % "a.width >= 300 && a.bottom <= b.y && b.y < 844")
    page.wait_for_function("document.documentElement.scrollWidth === 390")
