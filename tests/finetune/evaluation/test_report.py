"""The report: every figure of the run, in a page that needs nothing beside it and runs nothing of what a model says."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from finetune.evaluation.report import Report, to_html, write_report
from finetune.evaluation.scoring import Scores
from finetune.evaluation.tables import SampleReplies, prompt_rows, score_rows, show_samples, to_markdown, to_text
from finetune.export.model_card import Comparison, write_model_card

ATTACK = "<script>alert(1)</script><img src=http://evil.example/x.png onerror=alert(1)>\x1b[2J"


def _scores(bits, checkable=4):
    figures = {
        "bits_per_byte": bits,
        "exact_match": 0.25,
        "answer_contained": 0.75,
        "stop_rate": 0.5,
        "repetition_rate": 0.125,
    }
    return Scores(**figures, conversations=8, checkable=checkable)


def make_report(checkable=4, **changes):
    base, other = _scores(2.0, checkable), _scores(2.5, checkable)
    fields = {
        "title": "sft-1: an assistant made from <base> & co",
        "base": base,
        "base_by_prompt": {"question": base, "bare": other},
        "assistant": _scores(1.5, checkable),
        "samples": (SampleReplies("1+1?", ATTACK, 'a "quoted"\n\nreply', "2"),),
        "facts": {"base": "gpt2", "read": ATTACK},
        "metrics": tuple(
            {"step": step, "loss_nats": 5 / step}
            | ({"held_out_loss_nats": 6 / step, "stop_rate": step / 10} if step % 5 == 0 else {})
            for step in range(1, 11)
        ),
    }
    return Report(**{**fields, **changes})


class _Page(HTMLParser):
    """What a browser would see of a page: tags with their attributes, and the text of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "every tag is closed in its turn"

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += text


def test_the_page_refers_to_nothing_outside_itself():
    page = _Page(to_html(make_report()))
    references = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(references) == 3 and all(reference.startswith("data:image/") for reference in references)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "img", "div"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert page.open == []


def test_what_a_model_says_is_shown_and_not_run():
    html = to_html(make_report())
    assert "<script" not in html and "<img src=http" not in html and "<base>" not in html
    page = _Page(html)
    assert ATTACK in page.cells and 'a "quoted"\n\nreply' in page.cells


def test_replies_that_differ_most_come_first_and_many_are_folded():
    said = [("a b c d", "a b c d"), ("a b c d", "x y z"), ("a b c d", "a b c e")]
    samples = tuple(SampleReplies(f"question {n}", *said[n % 3], "d") for n in range(30))
    html = to_html(make_report(samples=samples))
    order = [int(number) for number in re.findall(r"question (\d+)", html)]
    assert sorted(order) == list(range(30)) and [number % 3 for number in order] == [1] * 10 + [2] * 10 + [0] * 10
    seen, _folded = html.split("<details><summary>18 more</summary>")
    assert len(re.findall(r"question \d+", seen)) == 12 and _Page(html).open == []


def test_the_page_has_its_plots_with_the_points_of_the_run():
    html = to_html(make_report())
    plots = [base64.b64decode(data).decode() for data in re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", html)]
    assert len(plots) == 3 and all("<svg" in plot for plot in plots)
    for plot, colour, points in [(1, "#1f77b4", 10), (1, "#ff7f0e", 2), (2, "#2ca02c", 2)]:  # training, held-out, ended
        curves = re.findall(rf'<path d="(M[^"]*)"[^>]*fill: none; stroke: {colour}', plots[plot])
        assert points in [len(re.findall("[ML]", curve)) for curve in curves]


@pytest.mark.parametrize("metrics", [(), ({"step": 1, "loss_nats": 2.0},)])
def test_a_run_with_hardly_a_metric_has_a_page(metrics):
    assert "data:image/svg+xml" in to_html(make_report(metrics=metrics))


def test_the_json_holds_every_figure_and_reply(tmp_path):
    write_report(make_report(), tmp_path)
    record = json.loads((tmp_path / "report.json").read_text())
    assert set(record) == {"title", "base", "base_by_prompt", "assistant", "samples", "facts"}
    assert record["assistant"] == vars(_scores(1.5))
    assert record["base_by_prompt"]["bare"]["bits_per_byte"] == 2.5
    assert record["samples"] == [vars(make_report().samples[0])]
    assert (tmp_path / "report.html").read_text().endswith("</body></html>\n")


def test_the_table_is_the_same_in_the_terminal_the_card_and_the_page():
    rows = score_rows(_scores(2.0), _scores(1.5))
    assert [figures for _, *figures in rows] == [
        ["2.000", "1.500"],
        ["25.0%", "25.0%"],
        ["75.0%", "75.0%"],
        ["50.0%", "50.0%"],
        ["12.5%", "12.5%"],
    ]
    page, text, card = (
        to_html(make_report()),
        to_text(_scores(2.0), _scores(1.5)),
        to_markdown(_scores(2.0), _scores(1.5)),
    )
    for name, base, assistant in rows:
        assert f">{name}<" in page and f"| {name} | {base} | {assistant} |" in card
        assert re.search(rf"^{re.escape(name)} +{base} +{assistant}$", text, re.MULTILINE)


def test_exact_match_and_answers_contained_are_shown_only_where_something_can_be_checked():
    rows = score_rows(_scores(2.0, checkable=0), _scores(1.5, checkable=0))
    assert [name for name, *_ in rows if "exact match" in name or "answer" in name] == []
    assert prompt_rows({"bare": _scores(2.0, checkable=0)}) == [("bare", "2.000", "–", "–", "50.0%", "12.5%")]
    assert prompt_rows({"bare": _scores(2.0)}) == [("bare", "2.000", "25.0%", "75.0%", "50.0%", "12.5%")]


def test_samples_in_the_terminal_are_three_spread_over_all_and_harmless():
    samples = [SampleReplies(f"question {n}", ATTACK, "one\n\ntwo", "x" * 5000) for n in range(10)]
    shown = show_samples(samples)
    assert re.findall(r"question (\d)", shown) == ["0", "3", "6"]
    assert "\x1b" not in shown and "\\x1b[2J" in shown
    assert "assistant: one\n\n           two\n" in shown
    assert len(shown) < 3000


@pytest.mark.parametrize(
    ("base", "said"),
    [("openai-community/gpt2", True), ("embedded", False), ("/home/somebody/model", False), ("a: b/c", False)],
)
def test_the_card_names_a_base_that_the_hub_can_know_and_no_other(tmp_path, base, said):
    comparison = Comparison(heading="Against its base", text="a table\n")
    write_model_card(tmp_path, title="an assistant", base=base, comparison=comparison, facts=make_report().facts)
    card = (tmp_path / "README.md").read_text()
    front = card.split("---\n")[1]
    assert (f"base_model: {base}\n" in front) == said
    assert set(re.findall(r"^(\w+):", front, re.MULTILINE)) <= {"base_model", "library_name", "pipeline_tag", "tags"}
