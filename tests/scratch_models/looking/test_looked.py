"""What a page shows of a reading is what was read, and text stays text."""

import re

import torch

from scratch_models.looking.looked import Looked, add_lens, look_at
from scratch_models.looking.looked_page import (
    following_as_html,
    head_as_html,
    heads_as_html,
    lens_as_html,
    reads_as_html,
    tokens_as_html,
)
from scratch_models.looking.reading import ATTENTION, LENS, Reading

TEXTS = {0: "<b>", 1: " cat", 2: "\n", 3: "{x}"}
ATTENTION_OF_TWO_HEADS = torch.tensor(
    [
        [[1.0, 0, 0], [0.75, 0.25, 0], [0.125, 0.5, 0.375]],
        [[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]],
    ]
)


def looked() -> Looked:
    rows = torch.eye(4)
    reading = Reading(
        ids=[0, 1, 2],
        logits=torch.tensor([[0.0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 3]]),
        attention=[ATTENTION_OF_TWO_HEADS],
        normed=[torch.tensor([[0.0, 2, 0, 0]] * 3)] * 2,
        head=lambda normed: normed @ rows,
    )
    return add_lens(look_at(reading, TEXTS), reading, TEXTS)


def test_each_head_is_shown_with_the_token_that_it_reads_most_from():
    assert looked().reads_most(2) == [[(1, 0.5), (2, 0.5)]]
    shown = heads_as_html(looked(), 2, 0, 1)
    assert "·cat 50%" in shown and "⏎ 50%" in shown
    assert shown.index("⏎ 50%") > shown.index("marked")


def test_the_square_of_a_head_holds_the_past_alone_and_the_bars_sum_to_one():
    shown = head_as_html(looked(), 0, 0)
    assert shown.count("reads ") == 1 + 2 + 3 + shown.count("each row reads")
    assert "⏎ reads 37.5% from ⏎" in shown
    shares = re.findall(r'class="number">([\d.]+)%', reads_as_html(looked(), 0, 0, 2))
    assert [float(share) for share in shares] == [12.5, 50.0, 37.5]


def test_what_follows_and_the_lens_name_the_likeliest_token():
    assert "·cat" in following_as_html(looked(), 0).split("</tr>")[0]
    shown = lens_as_html(looked())
    assert shown.count("after layer") == 1 and "embedding" in shown
    assert "really ·cat" in shown


def test_no_text_of_a_token_is_markup():
    one = looked()
    pages = [tokens_as_html(one, 0), following_as_html(one, 2), heads_as_html(one, 0, 0, 0), lens_as_html(one)]
    assert all("<b>" not in page and "&lt;b&gt;" in page for page in pages)


def test_what_a_model_does_not_have_is_said():
    reading = Reading(ids=[0], logits=torch.zeros(1, 4), left_out={ATTENTION: "it has none", LENS: "no head"})
    one = look_at(reading, TEXTS)
    assert "it has none" in head_as_html(one, 0, 0) and "it has none" in heads_as_html(one, 0, 0, 0)
    assert "no head" in lens_as_html(one)
