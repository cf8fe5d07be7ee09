"""Two models are compared on all logits of ids that hold the newest tokens too."""

import math

import pytest
import torch

from finetune.export.logit_comparison import compare_logits, logits_of, probe_ids
from tests.finetune.tiny_models import VOCABULARY, tiny_gpt2


@pytest.mark.parametrize(("vocabulary", "positions"), [(61, 96), (61, 5), (10, None), (50257, 1024)])
def test_the_probe_holds_ids_of_the_vocabulary_the_newest_among_them_and_fits_the_positions(vocabulary, positions):
    ids = probe_ids(vocabulary, positions)
    assert ids.min() >= 0 and ids.max() == vocabulary - 1
    assert ids.shape[1] <= (positions or 32)
    width = min(2 * ids.shape[1], vocabulary)
    assert set(range(vocabulary - width, vocabulary)) <= set(ids[-2:].flatten().tolist())
    assert torch.equal(ids, probe_ids(vocabulary, positions))


def test_a_model_equals_itself():
    model, ids = tiny_gpt2(), probe_ids(VOCABULARY)
    assert compare_logits(model, ids, logits_of(model, ids)) == (0.0, 1.0)


def test_the_difference_is_that_of_the_worst_logit_wherever_it_is():
    model, ids = tiny_gpt2(), probe_ids(VOCABULARY)
    expected = logits_of(model, ids)
    for row, position, token in ((0, 0, 0), (7, 31, 60)):
        changed = expected.clone()
        changed[row, position, token] += 100.0
        found = compare_logits(model, ids, changed)
        assert found.largest_difference == pytest.approx(100.0)
        assert found.same_choice == 1 - 1 / 256


def test_a_logit_that_is_no_number_is_a_difference_that_is_no_number():
    model, ids = tiny_gpt2(), probe_ids(VOCABULARY)
    expected = logits_of(model, ids)
    expected[0, 0, 0] = math.nan
    assert math.isnan(compare_logits(model, ids, expected).largest_difference)
