"""The tab that extends a vocabulary in a browser: propose, strike, take the knee, run, read the certificate."""

import re
from contextlib import nullcontext

import pytest
from playwright.sync_api import expect

from apps.tabs import extend
from tests.apps.tabs.opened_tab import opened
from tests.finetune.tiny_models import save_tiny_base

TEXT = "\n\n".join(f"the quokka number {n} eats <b>leaves</b> of the eucalyptus" for n in range(40))


@pytest.fixture(scope="module")
def visit(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("extend")
    bases = [f"{name}={save_tiny_base(folder / name)}" for name in ("tiny", "other")]
    with opened(extend.build, folder, bases, browser) as visit:
        yield visit


def test_tokens_are_proposed_and_struck_and_as_many_taken_as_at_the_knee(visit):
    page = visit.page
    page.click("#extend-propose")
    expect(page.get_by_text("corpus: is empty")).to_be_visible()
    _open(page, "too long.txt", b"x" * 1_000_001, "has 1,000,001 bytes, expected at most 1,000,000: send it to the API")
    _open(page, "latin.txt", b"caf\xe9", "is not text in UTF-8")
    _open(page, "field.txt", TEXT.encode())
    expect(page.locator("#extend-corpus textarea")).to_have_value(TEXT)
    page.fill("#extend-number input", "20")
    page.click("#extend-propose")
    expect(page.locator("#extend-curve svg")).to_be_visible()
    rows = page.locator("#extend-tokens tbody tr")
    expect(rows).to_have_count(20)
    first = rows.first.locator("button").get_attribute("data-strike")
    rows.first.locator("button").press("Enter")
    expect(page.locator("#extend-struck textarea")).to_have_value(first)
    page.click("#extend-knee")
    expect(page.locator("#extend-number input")).not_to_have_value("20")
    left = int(page.input_value("#extend-number input"))
    page.click("#extend-propose")
    expect(rows).to_have_count(left)
    assert first not in [button.get_attribute("data-strike") for button in page.locator("[data-strike]").all()]
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth === 390")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert visit.errors == []


@pytest.mark.long
def test_an_extension_is_started_and_cancelled(visit):
    page = visit.page
    start(page)
    page.click("#extend-cancel")
    expect(page.locator("#extend-status")).to_contain_text("was cancelled")
    expect(page.locator("#extend-cancel")).to_be_disabled()
    assert visit.errors == []


@pytest.mark.long
def test_the_certificate_of_an_extension_is_read_once_it_is_done(visit):
    page = visit.page
    start(page)
    expect(page.locator("#extend-status")).to_contain_text("certificate holds")
    expect(page.locator("#extend-status")).to_contain_text("It can be asked now as ft:tiny:ftjob-")
    expect(page.locator("#extend-status a")).to_have_attribute("href", re.compile("/v1/vocabulary/extensions/ftjob-.*"))
    assert any(name.startswith("ft:tiny:") for name in visit.studio.names)
    assert visit.errors == []


def _open(page, name: str, content: bytes, refused: str = "") -> None:
    """Chooses a file; what is refused is said."""
    said = list[str]()

    def accept(dialog) -> None:
        said.append(dialog.message)
        dialog.accept()

    page.once("dialog", accept)
    with page.expect_file_chooser() as chooser:
        page.click("#extend-corpus-open")
    with page.expect_event("dialog") if refused else nullcontext():
        chooser.value.set_files({"name": name, "mimeType": "text/plain", "buffer": content})
    if refused:
        assert refused in said[0]
    else:
        page.remove_listener("dialog", accept)


def start(page) -> None:
    """Has a job add ten tokens of the text."""
    page.fill("#extend-corpus textarea", TEXT)
    page.fill("#extend-number input", "10")
    page.click("#extend-run")
    expect(page.locator("#extend-status")).to_contain_text(re.compile("waits for its turn|runs"))
    expect(page.locator("#extend-cancel")).to_be_enabled()
