"""Nearest rows and directions, against the plain formula."""

import pytest
import torch

from configs import InputError
from scratch_models.looking.direction_terms import direction_terms
from scratch_models.looking.neighbours import find_direction, nearest_to

TEXTS = {0: " king", 1: " man", 2: "woman", 3: " queen", 4: "a"}


def test_the_nearest_rows_are_those_of_the_largest_cosine() -> None:
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    cosines = torch.nn.functional.cosine_similarity(table[7:8].double(), table.double())
    expected = sorted(range(50), key=lambda row: -cosines[row])[:8]
    found = nearest_to(table[7], table)
    assert [row for row, _ in found] == expected
    torch.testing.assert_close(torch.tensor([cosine for _, cosine in found]).double(), cosines[expected])


def test_a_direction_is_the_sum_of_its_words_rows() -> None:
    table = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, -1]])
    direction = find_direction("king - man + woman", table, TEXTS)
    assert list(direction.ids) == [0, 1, 2] and not direction.missing
    summed = table[0] / 2**0.5 - table[1] + table[2]
    cosine = float(torch.nn.functional.cosine_similarity(summed, table[3], dim=0))
    assert direction.nearest[0] == (3, pytest.approx(cosine))


def test_every_word_that_is_no_token_is_named_and_nothing_is_summed() -> None:
    direction = find_direction("prince - man + princess", torch.eye(5), TEXTS)
    assert direction.missing == ["prince", "princess"] and direction.nearest == ()


@pytest.mark.parametrize("text", ["king", "", "king -", "king - - man", "the king - man", "+ man", "king + "])
def test_what_is_no_sum_of_words_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected words with ' \\+ ' or ' - ' between them"):
        direction_terms(text)


def test_a_word_may_hold_a_hyphen() -> None:
    assert direction_terms("well-known + e") == [(1, "well-known"), (1, "e")]
