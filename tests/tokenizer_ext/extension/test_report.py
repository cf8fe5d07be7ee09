"""The page of an extension: every claim, the curve with its knee, each new token with its use, nothing that runs."""

import base64
import re
import sys
from collections import Counter
from html import unescape

import pytest

from tests.tokenizer_ext.extension.test_certificate import HOLDING
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.report import describe_plan
from tokenizer_ext.extension.report_page import claim_rows, hash_rows, to_html
from tokenizer_ext.extension.wanted import Wanted

ATTACK = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def plan(small_tokenizer, prose) -> Plan:
    texts = sort_texts([*prose.split("\n\n"), *[f"{ATTACK} {place} {ATTACK}" for place in range(30)]], None, [])
    return make_plan(small_tokenizer, texts, Wanted(new_tokens=60, control_tokens=["<|user|>"]))


@pytest.fixture(scope="module")
def html(plan: Plan) -> str:
    return to_html(HOLDING, plan)


def test_the_page_shows_every_claim_and_hash(html: str):
    text = unescape(html)
    for row in (*claim_rows(HOLDING), *hash_rows(HOLDING)):
        assert all(f">{cell}<" in text for cell in row)
    assert "certificate holds" in text


def test_the_page_lists_every_new_token_with_its_use_and_parts(html: str, plan: Plan):
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    cells = [[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows]
    by_id = {row[1]: row for row in cells if len(row) == 7}
    assert plan.curve is not None
    for merge, uses in zip(plan.merges, plan.curve.uses, strict=True):
        token, _, count, used, _, trained, parts = by_id[str(merge.token)]
        assert token == repr(merge.token_bytes.decode(errors="backslashreplace"))
        assert (count, used, trained) == (f"{merge.count:,}", f"{uses:,.0f}", "rarely" if uses < 100 else "")
        assert parts.replace(" · ", "") == merge.token_bytes.decode(errors="backslashreplace")
    assert by_id[str(plan.first_new_id + 60)][0] == "'<|user|>'"


def test_rows_that_will_be_under_trained_are_named(html: str, plan: Plan):
    assert plan.curve is not None
    rarely = [place for place, uses in enumerate(plan.curve.uses) if uses < 100]
    assert rarely and f"{len(rarely)} of 60 tokens stand fewer than 100 times" in html
    assert all(f"({plan.curve.uses[place]:,.0f})" in html for place in rarely)


def test_the_plot_has_a_point_for_each_vocabulary_of_the_table(html: str, plan: Plan):
    (data,) = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", html)
    curves = re.findall(r'<path d="(M[^"]*)"[^>]*fill: none; stroke: #1f77b4', base64.b64decode(data).decode())
    assert plan.curve is not None
    assert len(plan.curve.points) in [len(re.findall("[ML]", curve)) for curve in curves]


def test_text_of_the_corpus_is_shown_and_not_run(html: str):
    assert "<script" not in html and "script" in html
    assert not re.findall(r'(?:src|href)="(?!data:image/svg)', html)


def test_without_matplotlib_the_page_says_what_is_missing(plan: Plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = to_html(HOLDING, plan)
    assert "The plot needs matplotlib: pip install" in page and "data:image" not in page


def test_without_text_there_is_no_curve_on_the_page(small_tokenizer):
    plan = Plan(base=small_tokenizer, tokenizer=small_tokenizer)
    assert "How many tokens" not in to_html(HOLDING, plan)


def test_the_plan_in_the_terminal_has_the_points_of_the_curve_and_its_knee(plan: Plan):
    shown = describe_plan(plan)
    assert plan.curve is not None
    assert shown.startswith("would add to 400 tokens: 0 for words, 60 learned, 1 control tokens\n")
    for point in plan.curve.points:
        assert re.search(rf"^ *{point.new_tokens}( \(knee\))? +{point.bytes_per_token:.3f} ", shown, re.MULTILINE)
    assert f"knee at {plan.curve.knee.new_tokens} tokens" in shown


def test_tokens_that_hardly_stand_alone_in_the_held_out_text_are_counted_and_named(plan: Plan):
    encoded = plan.tokenizer.backend_tokenizer.encode_batch(list(plan.texts.held_out), add_special_tokens=False)
    counts = Counter(id_ for encoding in encoded for id_ in encoding.ids)
    seldom = [token for token in plan.tokens if counts[token.token] < 5]
    never = [token for token in seldom if not counts[token.token]]
    shown, page = describe_plan(plan), to_html(HOLDING, plan)
    assert never and f"{len(seldom)} of 60 stand alone fewer than 5 times, {len(never)} of them never" in shown
    first = f"{seldom[0].token_bytes.decode()!r} ({counts[seldom[0].token]})"
    assert first in shown and "alone in held-out text" in page
