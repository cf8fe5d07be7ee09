"""The choice of the next id from logits: greedy, or drawn under a temperature, top-k and top-p.

Shapes: B rows of a batch, V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from configs import InputError
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.seeds import seeded_generator


def row_generator(sampling: Sampling, row: int = 0) -> torch.Generator:
    """The generator of one row, for `next_ids`: a function of the seed and the row's own number, not of its batch."""
    return seeded_generator(sampling.seed, row)


def next_ids(logits: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> Tensor:
    """The next id of every row, each drawn with the row's own generator: (B, V) -> (B).

    Ids are drawn as the largest of logit plus Gumbel noise, which has the distribution of the softmax (Maddison et al.
    2014, "A* Sampling", section 2). So two models that use the same seed share their noise, and their texts differ only
    where the models do (common random numbers). The noise of an id does not depend on V: a grown vocabulary keeps it.

    Raises:
        InputError: a row holds NaN or +inf, or nothing but -inf.
    """
    assert logits.shape[0] == len(generators), "one generator per row"
    logits = logits.float()
    _refuse_broken_logits(logits)
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)  # (B)
    kept = keep_likely(logits / sampling.temperature, sampling.top_k, sampling.top_p)  # (B, V)
    noise = torch.stack([_gumbel_noise(generator, logits.shape[1]) for generator in generators])  # (B, V)
    return (kept + noise.to(kept.device)).argmax(dim=-1)  # (B)


def keep_likely(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """The logits with -inf for every id outside top-k and top-p; the likeliest id always stays: (B, V) -> (B, V).

    >>> keep_likely(torch.tensor([[0.5, 0.3, 0.2]]).log(), top_p=0.7).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if top_k == 0 and top_p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)  # (B, V) twice
    if top_k:
        ordered[:, top_k:] = -math.inf
    if top_p < 1:
        probabilities = ordered.softmax(dim=-1)  # (B, V)
        likelier = probabilities.cumsum(dim=-1) - probabilities  # (B, V): what the ids before this one hold
        likelier[:, 0] = 0  # rounding must not drop the likeliest id
        ordered = ordered.masked_fill(likelier >= top_p, -math.inf)
    return torch.empty_like(logits).scatter_(1, order, ordered)  # (B, V)


def _gumbel_noise(generator: torch.Generator, vocabulary_size: int) -> Tensor:
    # The row's generator gives one number a step, whatever V is, and that number seeds the step's noise: models of
    # different vocabulary stay in step. `torch.rand` fills in order: an id gets the same noise under a larger V.
    # Double precision: in single precision the largest of 50,000 uniforms is cut off visibly.
    key = int(torch.randint(2**32, (1,), generator=generator))
    uniform = torch.rand(vocabulary_size, dtype=torch.float64, generator=torch.Generator().manual_seed(key))
    return -(-uniform.log()).log().float()  # (V)


def _refuse_broken_logits(logits: Tensor) -> None:
    likeliest = logits.amax(dim=-1)  # (B): NaN wherever a row holds one
    broken = (~likeliest.isfinite()).nonzero().flatten().tolist()
    if broken:
        raise InputError(
            f"the largest logit of row {broken[0]} is {likeliest[broken[0]].item()}, expected a finite number: the "
            "model's weights are broken, use an earlier checkpoint or train with a smaller learning_rate"
        )
