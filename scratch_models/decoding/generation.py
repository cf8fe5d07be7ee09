"""Text continued by a scratch model, id by id.

Shapes: B rows, T new ids of a row, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from configs import InputError
from scratch_models.decoding.block_decoder import BlockDecoder
from scratch_models.decoding.rows import Ends, decode
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.decoding.scratch_parts import parts_of
from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT
from scratch_models.rungs.llama import Llama


def generate(model: ScratchModel, input_ids: Sequence[int], max_new_tokens: int, sampling: Sampling) -> Iterator[int]:
    """Ids that continue `input_ids`, one at a time; a model with a block size reads at most so many of the last.

    The model is left in evaluation mode.

    Raises:
        InputError: `input_ids` is empty, or the model's logits are broken.
    """
    for (continued,) in generate_rows(model, [input_ids], max_new_tokens, sampling):
        yield continued


def generate_rows(
    model: ScratchModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampling: Sampling
) -> Iterator[list[int]]:
    """The next id of every prompt, again and again: prompts of unequal length go on together.

    Each row is what `generate` gives for its prompt, under noise of the row's own.

    Raises:
        InputError: a prompt is empty, or the model's logits are broken.
    """
    if not all(prompts):
        raise InputError("nothing to continue: pass a prompt of at least one token")
    model.eval()
    rows = dict(enumerate(prompts))
    ends = Ends(limits=dict.fromkeys(rows, max_new_tokens))
    device = next(model.parameters()).device
    for chosen in decode(partial(ScratchDecoder, model), rows, ends=ends, sampling=sampling, device=device):
        yield [chosen[row] for row in rows]


def window_of(model: ScratchModel) -> int:
    """How many of the last ids the model sees."""
    return 1 if isinstance(model, BigramLanguageModel) else model.config.block_size


class ScratchDecoder:
    """A scratch model that remembers what it has read, as far back as it can see."""

    def __init__(self, model: ScratchModel, rows: Sequence[int], ids: int) -> None:
        """Has room for so many ids a row at first."""
        self.model = model
        self.device = next(model.parameters()).device
        self.window = window_of(model)
        # A GPT and a Llama keep keys and values while a row fits their window. Once it moves every one of them is
        # stale: what they were computed from is no longer seen.
        self.cached = None
        if isinstance(model, GPT | Llama):
            self.cached = BlockDecoder(parts_of(model), len(rows), min(2 * ids, self.window))
        self.rows: list[list[int]] = [[] for _ in rows]

    def read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits after the last id of each row: (B, T) -> (B, V)."""
        shown = input_ids.ne(-1) if mask is None else mask[:, -input_ids.shape[1] :].bool()  # (B, T)
        for read, ids, is_shown in zip(self.rows, input_ids, shown, strict=True):
            read.extend(ids[is_shown].tolist())
        if self.cached is not None:
            if self.cached.length + input_ids.shape[1] <= self.window:
                return self.cached.read(input_ids, positions, mask)
            self.cached = None
        seen = [torch.tensor([row[-self.window :]], device=self.device) for row in self.rows]  # (1, window) each
        return torch.cat([self.model(ids)[:, -1] for ids in seen])

    def keep_rows(self, kept: Tensor) -> None:
        """Forgets every row but these."""
        self.rows = [self.rows[row] for row in kept.tolist()]
        if self.cached is not None:
            self.cached.keep_rows(kept)
