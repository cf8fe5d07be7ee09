"""The Vote tab in a browser: asked, read without names, voted on by a key, told who was who, written as pairs."""

from playwright.sync_api import expect


def test_two_replies_are_voted_on_blind_by_a_key_and_become_a_pair(visit):
    page = visit.page
    visit.open_tab("Vote")
    expect(page.locator("#vote-standings")).to_contain_text("No votes yet")
    page.fill("#vote-prompt textarea", "what is abs?")
    page.keyboard.press("Enter")
    expect(page.locator("#vote-status")).to_contain_text("Which is better")
    names = [page.input_value(f"#vote-{which} input") for which in ("first", "second")]
    blind = page.locator("#vote-panes").inner_html() + page.locator("#vote-status").inner_html()
    assert not any(name in blind for name in names)
    page.locator("#vote-pane-1").click()  # away from the prompt, in which a key is a letter
    page.keyboard.press("2")
    expect(page.locator("#vote-status")).to_contain_text("Kept: B is better")
    shown = [page.inner_text(f"#vote-pane-{number} h3") for number in (1, 2)]
    assert sorted(shown) in (sorted([f"A: {a}", f"B: {b}"]) for a, b in (names, names[::-1]))
    expect(page.locator("#vote-standings table")).to_contain_text(f"{names[0]} against {names[1]}")
    page.keyboard.press("1")  # a vote counts once
    page.click("#vote-export")
    expect(page.locator("#vote-told")).to_contain_text("1 pair written")
    page.click("#vote-queue")
    expect(page.get_by_text("1 different prompts with two different replies are too few")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth === 390")
    assert visit.errors == []
