"""Matrices in few bits: what is made of some rows at a time is what is made of all of them at once."""

import pytest
import torch

from tokenizer_ext.held_weights.packed_matrices import made_in_parts, made_whole, packed

pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("rows", "width", "parts"), [(300, 96, 38), (64, 200, 8), (96, 24, 3)])
def test_parts_have_the_very_numbers_of_the_whole(rows: int, width: int, parts: int, bits, dtype: torch.dtype):
    torch.manual_seed(0)
    numbers, state = packed(torch.randn(rows, width), bits)
    found = list(made_in_parts(numbers, state, bits, dtype, width, 800))
    assert torch.equal(torch.cat(found), made_whole(numbers, state, bits, dtype))
    assert bits == 8 or len(found) == parts
