"""Matrices in 8 or 4 bits, as bitsandbytes packs them and makes them again.

Four bits are NF4 with quantised scales, as QLoRA has them (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314,
section 3); eight are blockwise (Dettmers et al. 2022, https://arxiv.org/abs/2110.02861, section 2.1). Activations are
never quantised.

Shapes: I width of the input, O width of the output.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from configs import InputError

Bits = Literal[4, 8]
BLOCK_SIZES: Mapping[int, int] = {4: 64, 8: 256}
"""Numbers that share a scale: QLoRA's, and bitsandbytes' own for 8 bits."""
NF4, INT8 = "nf4", "blockwise int8"
KINDS: Mapping[int, str] = {4: NF4, 8: INT8}


def expect_bitsandbytes() -> None:
    """Refuses where bitsandbytes is not installed."""
    try:
        import bitsandbytes  # noqa: F401 - whether it is there, and finds its kernels
    except ImportError as error:
        raise InputError(
            f"base_bits: needs bitsandbytes, which cannot be imported ({error}): pip install 'graft-lm[bits]'"
        ) from None


def packed(weight: Tensor, bits: Bits) -> tuple[Tensor, Any]:
    """A matrix as bitsandbytes packs it, and what undoes that."""
    from bitsandbytes import functional

    matrix = weight.contiguous()
    if bits == 4:
        return functional.quantize_4bit(matrix, quant_type=NF4, compress_statistics=True, blocksize=BLOCK_SIZES[4])
    return functional.quantize_blockwise(matrix, blocksize=BLOCK_SIZES[8], nested=False)


def rounded(weight: Tensor, bits: Bits, dtype: torch.dtype) -> Tensor:
    """A matrix after it was quantised and made whole again."""
    return made_whole(*packed(weight, bits), bits, dtype)


def made_whole(numbers: Tensor, state: Any, bits: Bits, dtype: torch.dtype) -> Tensor:
    """A matrix of what it was packed into, (O, I) in a type, with what undoes that."""
    from bitsandbytes import functional

    state.dtype = dtype
    make = functional.dequantize_4bit if bits == 4 else functional.dequantize_blockwise
    whole: Tensor = make(numbers, state)
    return whole


def made_in_parts(
    numbers: Tensor, state: Any, bits: Bits, dtype: torch.dtype, width: int, numbers_at_once: int
) -> Iterator[Tensor]:
    """The same, some rows after the other, (some of O, I): the very numbers that `made_whole` gives.

    As many rows as fill blocks of numbers that share a scale are made at least.

    Args:
        numbers: What the matrix was packed into.
        state: What undoes that.
        bits: 4 or 8.
        dtype: The type of what is made.
        width: I.
        numbers_at_once: That are made, about.

    """
    from bitsandbytes import functional

    size, numbers, scales = BLOCK_SIZES[bits], numbers.reshape(-1), _scales(state)
    of_blocks = size // math.gcd(width, size)  # rows that end where a block does
    step, end = max(1, numbers_at_once // width // of_blocks) * of_blocks * width, numbers.numel() * 8 // bits
    for start in range(0, end, step):
        stop = min(start + step, end)
        some = scales[start // size : -(-stop // size)]
        shape, kind = torch.Size(((stop - start) // width, width)), NF4 if bits == 4 else None
        of_rows = functional.QuantState(some, shape, state.code, blocksize=size, quant_type=kind)
        part = numbers[start * bits // 8 : -(-stop * bits // 8)]
        yield made_whole(part, of_rows, bits, dtype).view(shape)


def _scales(state: Any) -> Tensor:
    """Of each block of a packed matrix, (blocks,) in single precision."""
    from bitsandbytes import functional

    scales: Tensor = state.absmax
    return (functional.dequantize_blockwise(scales, state.state2) + state.offset).float() if state.nested else scales
