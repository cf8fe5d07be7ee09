"""What blocks like Llama's compute between their products, as single steps of the graph with their backward by hand.

Written out, each is many kernels that read and write tensors as large as the layer's output, and the graph keeps some
of them. Here there are as few as torch has kernels for, in place where they can be. The arithmetic is transformers' up
to rounding:

- RMSNorm (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4): y = x / sqrt(mean(x^2) + eps) * w;
- rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34, halves in the place of pairs).

Shapes: N rows, D width, B rows of a micro-batch, H heads, K heads of keys, T tokens, E width of a head.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(values: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """The values over the root of their mean square, times the weight: (..., D), (D,) -> (..., D).

    >>> rms_norm(torch.tensor([[4.0, -4.0]]), torch.tensor([1.0, 2.0]), 0.0).round(decimals=3).tolist()
    [[1.0, -2.0]]
    """
    normed: Tensor = _RMSNorm.apply(values.reshape(-1, values.shape[-1]), weight, epsilon)
    return normed.view(values.shape)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        factors = torch.linalg.vector_norm(values, dim=1, keepdim=True)  # (N, 1)
        factors.square_().div_(values.shape[1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(values, factors, weight)
        return (values * factors).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        values, factors, weight = ctx.saved_tensors
        of_weight = (upstream * values).mul_(factors).sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        of_values = upstream * weight
        along = torch.linalg.vecdot(of_values, values).unsqueeze(1)  # (N, 1)
        along.mul_(factors.square()).div_(-values.shape[1])
        return of_values.addcmul_(values, along).mul_(factors), of_weight, None


def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys turned to their positions: (B, H, T, E) and (B, K, T, E), twice (B, T, E) -> the first two.

    What transformers' `apply_rotary_pos_emb` of the Llama family computes, called as it is. With another
    `unsqueeze_dim` the heads stand elsewhere.
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)  # (B, 1, T, E)
    return _Rotation.apply(query, cos, sin), _Rotation.apply(key, cos, sin)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = values.shape[-1] // 2
        signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)  # (B, 1, T, E)
        ctx.save_for_backward(cos, signed)
        return (values * cos).addcmul_(values.roll(half, -1), signed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        cos, signed = ctx.saved_tensors
        half = upstream.shape[-1] // 2
        return (upstream * cos).addcmul_(upstream.roll(half, -1), signed.roll(half, -1)), None, None
