"""Codes as tokens of a GPT: a digit is its name and a word for the code of each place, `seven: <0.17><1.3><2.60><3.5>`.

There is a token for each code at each place, so that a token also says where in the image it stands.

Shapes: N images, P codes of an image, B rows of a batch, T tokens of a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from scratch_models.image_words.autoencoder import PLACES
from scratch_models.image_words.digit_images import NAMES
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch, name_numbers
from scratch_models.loop.seeds import seeded_generator


def code_tokens(codes: int) -> list[str]:
    """The new tokens, place by place.

    >>> code_tokens(2)
    ['<0.0>', '<0.1>', '<1.0>', '<1.1>', '<2.0>', '<2.1>', '<3.0>', '<3.1>']
    """
    return [f"<{place}.{code}>" for place in range(PLACES) for code in range(codes)]


def prompt_of(label: int) -> str:
    """What asks for a digit.

    >>> prompt_of(7)
    'seven: '
    """
    return f"{NAMES[label]}: "


def words_of(codes: Sequence[int]) -> str:
    """The codes of an image in writing.

    >>> words_of([17, 3, 60, 5])
    '<0.17><1.3><2.60><3.5>'
    """
    return "".join(f"<{place}.{code}>" for place, code in enumerate(codes))


def codes_of(ids: Sequence[int], first_new_id: int, codes: int) -> list[int] | None:
    """The codes that ids stand for; None where they are not one code for each place, in order.

    >>> codes_of([100, 103, 104, 107], 100, 2), codes_of([100, 101, 104, 107], 100, 2)
    ([0, 1, 0, 1], None)
    """
    found = [id_ - first_new_id - place * codes for place, id_ in enumerate(ids)]
    return found if len(found) == PLACES and all(0 <= code < codes for code in found) else None


class NamedImages:
    """Rows of a digit's name and its codes; the codes are what is learned."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        labels: Tensor,
        codes: Tensor,
        rows_per_batch: int,
        seed: int,
    ) -> None:
        named = zip(labels.tolist(), codes.tolist(), strict=True)
        rows: list[list[int]] = tokenizer(
            [prompt_of(label) + words_of(of_image) for label, of_image in named]
        ).input_ids
        longest = max(map(len, rows))
        filled = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # (N, T + 1)
        ends = torch.tensor([[len(row)] for row in rows])  # (N, 1)
        places = torch.arange(longest)  # (T + 1)
        is_code = (places >= ends - PLACES) & (places < ends)  # (N, T + 1)
        self.input_ids = filled[:, :-1]
        self.targets = filled.masked_fill(~is_code, IGNORED_TARGET)[:, 1:]
        self.rows_per_batch, self.seed = rows_per_batch, seed

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        """One process's share of a step's rows, drawn by seed and step."""
        return [self._batch(self._drawn(step)[rank::world_size])]

    def describe(self, step: int) -> str:
        """The numbers of a step's rows."""
        return name_numbers("rows", self._drawn(step).tolist())

    def _drawn(self, step: int) -> Tensor:
        return torch.randint(len(self.targets), (self.rows_per_batch,), generator=seeded_generator(self.seed, step))

    def all_rows(self) -> list[MicroBatch]:
        """Every row once."""
        return [self._batch(some) for some in torch.arange(len(self.targets)).split(64)]

    def _batch(self, rows: Tensor) -> MicroBatch:
        return {"input_ids": self.input_ids[rows], "targets": self.targets[rows]}
