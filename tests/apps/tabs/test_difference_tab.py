"""The Difference tab in a browser: a text is scored, coloured, looked into by key, and gone on from a token."""

import re

import pytest
from playwright.sync_api import expect

TEXT = "It is <b>red</b> {{1}} ${2}.\nBlue 数."


def test_a_text_is_scored_looked_into_by_keys_gone_on_from_and_many_are_read(visit):
    page = visit.page
    visit.open_tab("Difference")
    page.fill("#difference-prompt textarea", "what is abs?")
    page.fill("#difference-text textarea", TEXT)
    page.click("#difference-score")
    expect(page.locator(".token").nth(3)).to_be_visible()
    expect(page.locator("#difference-status")).to_contain_text("bits per byte")
    page.locator(".token").nth(2).focus()
    page.keyboard.press("Tab")
    expect(page.locator(".token:focus + .said")).to_be_visible()
    expect(page.locator(".token:focus + .said")).to_contain_text("likeliest")
    coloured = page.locator(".token.down").first.get_attribute("aria-label")
    page.get_by_label("Rank, tuned").check()
    expect(page.locator(".token.down").first).to_have_attribute("aria-label", re.compile("rank"))
    assert "rank" not in coloured
    page.locator(".token").nth(3).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".likely")).to_have_count(20)
    page.locator(".likely[data-force^=tuned]").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".likely")).to_have_count(0)
    expect(page.locator("#difference-text textarea")).not_to_have_value(TEXT)
    page.get_by_text("The most changed tokens").click()
    page.fill("#changed-texts textarea", f'{{"question": "1+1?", "answer": "2"}}\nabs returns\n{"long " * 2000}')
    page.click("#changed-read")
    expect(page.locator("#changed-rows table")).to_be_visible()
    expect(page.locator("#changed-status")).to_contain_text("read: 2 texts")
    expect(page.locator("#changed-status")).to_contain_text("left out: 1 longer than")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth === 390")
    assert visit.errors == []


@pytest.mark.long
def test_what_cannot_be_scored_is_said(visit):
    page = visit.page
    visit.open_tab("Difference")
    page.click("#difference-score")
    expect(page.get_by_text("text: is empty")).to_be_visible()
