"""Bits per byte are the same figure in every vocabulary."""

import math

import pytest

from scratch_models.corpus.bits_per_byte import bits_per_byte


def test_a_model_that_knows_nothing_needs_eight_bits_per_byte_in_any_vocabulary() -> None:
    assert bits_per_byte(100 * math.log(256), text_bytes=100) == pytest.approx(8)
    assert bits_per_byte(50 * math.log(256**2), text_bytes=100) == pytest.approx(8)
