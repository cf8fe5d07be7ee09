"""What it costs to train a GPT: arithmetic operations a token, and hours of a GPU.

Source: Chowdhery et al. 2022, "PaLM: Scaling Language Modeling with Pathways", appendix B: 6 N + 12 L H Q T for N
parameters, L layers, H heads of width Q and rows of T tokens, of forward and backward pass together. It counts the
products of attention whole, though a causal mask needs half of them.
"""

import torch

from scratch_models.rungs.gpt import GPT, GPTConfig

PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
"""Operations a second in bfloat16 of NVIDIA's SXM cards, by its data sheets; for the last two these print twice as
much, which holds for sparse matrices."""


def flops_per_token(config: GPTConfig) -> int:
    """The operations that training needs for each token, in rows as long as the block.

    Only what is multiplied counts: rows of tables that are looked up, positions and an untied embedding, do not.

    >>> flops_per_token(GPTConfig(vocabulary_size=50257, block_size=1024, layers=12, heads=12, width=768))
    855166464
    """
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in GPT(config).parameters())
    looked_up = config.block_size + (0 if config.tied else config.vocabulary_size)
    multiplied = parameters - looked_up * config.width
    return 6 * multiplied + 12 * config.layers * config.width * config.block_size


def training_hours(config: GPTConfig, tokens: int, gpu: str, share: float) -> float:
    """Hours of one GPU, where training reaches such a share of its peak; eight of them take an eighth.

    >>> gpt2 = GPTConfig(vocabulary_size=50257, block_size=1024, layers=12, heads=12, width=768)
    >>> round(training_hours(gpt2, 10**10, "A100", share=0.5), 1)
    15.2
    """
    return flops_per_token(config) * tokens / (PEAK_FLOPS[gpu] * share) / 3600


def share_of_peak(config: GPTConfig, tokens_per_second: float, gpu: str) -> float:
    """The share of a GPU's peak that a run reaches with so many tokens a second on each."""
    return flops_per_token(config) * tokens_per_second / PEAK_FLOPS[gpu]
