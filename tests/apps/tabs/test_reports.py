"""The report of a run on a phone, in the dark, and with many replies."""

from finetune.evaluation.report import to_html
from finetune.evaluation.tables import SampleReplies
from tests.finetune.evaluation.test_report import ATTACK, make_report

LONG = "The sum of all elements of the tensor along the given dimensions, with or without them kept. " * 3


def test_a_report_fits_a_phone_is_dark_in_the_dark_and_is_not_endless(browser, tmp_path):
    samples = tuple(SampleReplies(f"What does f{n} do?", ATTACK + LONG, LONG, "x" * 90) for n in range(100))
    (tmp_path / "report.html").write_text(to_html(make_report(samples=samples)), encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto(f"file://{tmp_path}/report.html")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    text, back = page.evaluate(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    assert _light(text) > 200 and _light(back) < 40
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.evaluate("document.documentElement.scrollHeight") <= 6000
    assert not page.locator("table.samples").last.is_visible()
    page.locator("summary").click()
    assert page.locator("table.samples").last.is_visible()
    page.close()


def _light(colour: str) -> float:
    parts = [float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(parts) / 3
