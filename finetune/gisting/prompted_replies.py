"""Replies to many questions behind one prompt, whose keys and values are computed once for all of them.

Shapes: B rows, T tokens of a row, P tokens that all rows begin with, V vocabulary.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune.decoding.decoders import OwnForward
from finetune.replies.generation import ROWS_AT_ONCE, reply_room
from scratch_models.decoding.rows import Ends, decode
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.pages.progress import progress

Replies = list[list[int]]
"""The ids of the reply to each question, with the id that ended it."""


def reply_behind(
    model: PreTrainedModel,
    asked: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int],
    sampling: Sampling,
) -> Replies:
    """The reply to each of some prompts; what all of them begin with is read once for as many as share a batch.

    Greedy ids equal those of ``model.generate(do_sample=False)``; the noise of a reply is that of its number.
    """
    prefix = common_beginning(asked)
    ends = Ends(
        limits={row: reply_room(model, ids, max_new_tokens) for row, ids in enumerate(asked)},
        stop_ids=dict.fromkeys(range(len(asked)), stop_ids),
    )
    found: Replies = [[] for _ in asked]
    order = sorted(range(len(asked)), key=lambda row: len(asked[row]))
    with progress("replies", len(order), "questions") as bar:
        for start in range(0, len(order), ROWS_AT_ONCE):
            rows = order[start : start + ROWS_AT_ONCE]
            for chosen in decode(
                lambda some, _: BehindPrefix(model, asked[0][:prefix], len(some)),
                {row: asked[row][prefix:] for row in rows},
                ends=ends,
                sampling=sampling,
                device=model.device,
            ):
                for row, token in chosen.items():
                    found[row].append(token)
                bar.set_postfix_str(f"{sum(map(len, found)):,} tokens", refresh=False)
                bar.update(sum(ends.reached(row, token, len(found[row])) for row, token in chosen.items()))
    return found


class BehindPrefix(OwnForward):
    """The model's own forward for rows that go on from one beginning."""

    def __init__(self, model: PreTrainedModel, prefix: Sequence[int], rows: int) -> None:
        super().__init__(model)
        self.prefix = len(prefix)
        if prefix:
            model(torch.tensor([prefix], device=model.device), past_key_values=self.cache, logits_to_keep=1)
            self.cache.batch_repeat_interleave(rows)

    def read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits after the last id of each row, counted from behind the beginning: (B, T) -> (B, V)."""
        if mask is not None:
            mask = torch.cat([mask.new_ones(len(mask), self.prefix), mask], dim=1)  # (B, P + T)
        return super().read(input_ids, positions + self.prefix, mask)


def common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """How many ids all rows begin with; each has one more at least.

    >>> common_beginning([[5, 6, 7, 8], [5, 6, 9]]), common_beginning([[5, 6]])
    (2, 1)
    """
    longest = min(map(len, rows)) - 1
    same = (len({row[place] for row in rows}) == 1 for place in range(longest))
    return next((place for place, is_same in enumerate(same) if not is_same), longest)
