"""The slider over the checkpoints of a run: by keys, from the finished run back to the base that it started from."""

import re

import pytest
from playwright.sync_api import expect

from apps.tabs import difference
from tests.apps.tabs.opened_tab import opened
from tests.finetune.short_runs import tune


@pytest.fixture(scope="module")
def visit(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("steps")
    run = tune(folder, 2)
    with opened(difference.build, folder, [f"base={folder / 'base'}", f"tuned={run}"], browser) as visit:
        yield visit


@pytest.mark.long
def test_a_checkpoint_is_chosen_and_scored_and_the_first_is_the_base(visit):
    page = visit.page
    slider, model = page.locator("#difference-step input[type=range]"), page.locator("#difference-tuned input")
    expect(page.locator("#difference-step")).to_contain_text(
        "Checkpoint of 3, from the base to the end: the finished run"
    )
    page.fill("#difference-text textarea", "It is red.")
    for step in (2, 1, 0):
        slider.press("ArrowLeft")
        expect(model).to_have_value(f"tuned:step-{step}")
        expect(page.locator("#difference-step")).to_contain_text(f"after step {step}")
        page.click("#difference-score")
        expect(page.locator("#difference-status")).to_contain_text(f"tuned:step-{step}: ")
    expect(page.locator(".token").last).to_have_attribute("aria-label", re.compile(r"change [+-]0\.00 nats"))
    slider.press("End")
    expect(model).to_have_value("tuned")
    page.click("#difference-score")
    expect(page.locator("#difference-status")).not_to_contain_text("step-0")
    expect(page.locator(".token").last).not_to_have_attribute("aria-label", re.compile(r"change [+-]0\.00 nats"))
    assert visit.errors == []


@pytest.mark.long
def test_a_step_that_is_not_there_is_named(visit):
    with pytest.raises(Exception, match="has no checkpoint of step 7, expected one of 0, 1, 2"):
        visit.studio.parts.names.place_of("tuned:step-7")
    with pytest.raises(Exception, match="has no checkpoint of step 1, it is of no run"):
        visit.studio.parts.names.place_of("base:step-1")
