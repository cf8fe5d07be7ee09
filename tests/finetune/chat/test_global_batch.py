"""A step is shared out evenly over processes and micro-batches, or refused with what would fit."""

import pytest

from configs import InputError
from finetune.chat.batches import check_global_batch


@pytest.mark.parametrize("shares", [(32, None, 1), (32, 4, 1), (32, None, 4), (32, 4, 8), (6, 3, 2), (7, None, 7)])
def test_what_can_be_shared_out_evenly_is_taken(shares):
    check_global_batch(*shares)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((32, None, 3), r"found 32, expected a multiple of 3 \(3 processes x 1 accumulation steps\): set 30 or 33"),
        ((32, 3, 1), r"found 32, expected a multiple of 3 \(1 process x 3 accumulation steps\): set 30 or 33"),
        ((32, 6, 2), r"found 32, expected a multiple of 12 \(2 processes x 6 accumulation steps\): set 24 or 36"),
        ((2, None, 4), r"found 2, expected a multiple of 4 \(4 processes x 1 accumulation steps\): set 4$"),
    ],
)
def test_what_cannot_is_refused_with_what_would(shares, said):
    with pytest.raises(InputError, match=f"^conversations_per_step: {said}"):
        check_global_batch(*shares)
