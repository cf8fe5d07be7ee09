"""The tab that looks inside in a browser: a prompt is read, another head is chosen, what is wrong is said."""

import pytest
from playwright.sync_api import expect

from apps.tabs import inside
from tests.apps.tabs.opened_tab import opened
from tests.finetune.serving.served import save_models


@pytest.fixture(scope="module")
def visit(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("inside")
    base, adapter = save_models(folder / "models", adapters=1)
    with opened(inside.build, folder, [f"base={base}", f"tuned={adapter}"], browser) as visit:
        yield visit


def test_a_prompt_is_read_and_another_token_and_head_are_chosen_by_keys(visit):
    page = visit.page
    page.fill("#inside-prompt textarea", "It is <b>red</b>.")
    page.press("#inside-prompt textarea", "Enter")
    expect(page.locator("#inside-lens td[title]").first).to_be_visible()
    expect(page.locator("#inside-about")).to_contain_text("its adapter is applied")
    tokens = page.locator("#inside-tokens li")
    last = tokens.count()
    expect(tokens.nth(last - 1)).to_have_class("marked")
    expect(page.locator("#inside-square")).to_contain_text("Layer 1, head 1")
    first = page.locator("#inside-next section").first
    before = first.inner_text()
    number = page.get_by_label("number input for Token")
    number.focus()
    number.press("ArrowDown")
    expect(tokens.nth(last - 2)).to_have_class("marked")
    expect(page.locator("#inside-next caption").first).to_contain_text(f"after token {last - 1}")
    expect(first).not_to_have_text(before, use_inner_text=True)
    page.get_by_label("number input for Head").fill("3")
    expect(page.locator("#inside-square")).to_contain_text("Layer 1, head 3")
    expect(page.locator("#inside-next caption").last).to_contain_text("head 3")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth === 390")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert visit.errors == []


@pytest.mark.long
def test_a_prompt_that_is_too_long_is_refused_in_words(visit):
    page = visit.page
    page.fill("#inside-prompt textarea", "7 " * 300)
    page.click("#inside-look")
    expect(page.get_by_text("expected at most 96")).to_be_visible()
    assert visit.errors == []
