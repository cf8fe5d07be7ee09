"""The tab of tokens in a browser: two vocabularies by clicks and keys, a mask, an audit, and markup that stays text."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from apps.tabs import tokens
from tests.apps.tabs.opened_tab import Visit, opened
from tests.finetune.tiny_models import save_tiny_base

MARKUP = "It is red.\n<img src=x onerror=alert(1)> {{x}} ${y} 東"


@pytest.fixture(scope="module")
def visit(tmp_path_factory, browser) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("tokens")
    models = [f"tiny={save_tiny_base(folder / 'tiny')}", "embedded"]
    with opened(tokens.build, folder, models, browser) as visit:
        yield visit


def test_a_text_is_cut_by_both_and_a_piece_says_what_it_is_made_of_by_keys_alone(visit):
    page = visit.page
    page.fill("#tokens-text textarea", MARKUP)
    page.click("#tokens-show")
    expect(page.locator("#tokens-shown section")).to_have_count(2)
    left = page.locator("#tokens-shown section").first
    expect(left.locator("h3")).to_have_text("tiny")
    assert page.locator("#tokens-shown img").count() == 0
    page.focus("#tokens-show")
    page.keyboard.press("Tab")  # to the figures, which scroll where they are wide
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    last = left.locator(".piece").last
    expect(last).to_be_focused()
    expect(last.locator(".detail")).to_be_visible()
    expect(last.locator(".detail")).to_contain_text("here byte 3 of 3")
    page.keyboard.press("ArrowLeft")
    expect(left.locator(".piece").nth(-2)).to_be_focused()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth === 390")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert visit.errors == []


def test_a_conversation_shows_what_is_learned_and_what_is_none_is_refused_in_words(visit):
    page = visit.page
    page.click("#tokens-mask-box button")
    page.click("#mask-show")
    expect(page.locator("#mask-shown .learned").first).to_be_visible()
    learned = "".join(page.locator("#mask-shown .learned").all_inner_texts())
    assert learned == "It is 4.<|end|>"
    page.fill("#mask-text textarea", '[{"role": "pilot", "content": "<b>"}]')
    page.click("#mask-show")
    expect(page.get_by_text("role is 'pilot'")).to_be_visible()
    assert visit.errors == []


def test_an_audit_counts_the_kinds_of_tokens(visit):
    page = visit.page
    page.click("#tokens-audit-box button")
    page.click("#audit-start")
    expect(page.locator("#audit-shown")).to_contain_text("ordinary: whole text that encodes to this id")
    assert visit.errors == []
