"""The matrix products that this machine can do: what the arithmetic floor of a step is divided by.

    python -m tests.benchmarks.matmul_rate

One line for each type of number, in GFLOP/s: the median of products of two matrices of 2048 x 2048, and the best.
Other work on the machine lowers it, so a share of the peak needs the rate of the same minute: `sft_speed` measures it
before and after each run. Ten seconds.
"""

import statistics
import time
from collections.abc import Callable

import torch

SIZE, PRODUCTS = 2048, 20


def product_gflops(
    dtype: torch.dtype, products: int = PRODUCTS, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """The rate of each of some products of two square matrices, by a clock in seconds."""
    left, right = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    torch.mm(left, right, out=out)
    rates = []
    for _ in range(products):
        start = clock()
        torch.mm(left, right, out=out)
        rates.append(2 * SIZE**3 / (clock() - start) / 1e9)
    return rates


def main() -> None:
    """Prints the rates."""
    for dtype in (torch.float32, torch.bfloat16):
        rates = product_gflops(dtype)
        median, best = statistics.median(rates), max(rates)
        print(f"{dtype!s:>16}  {median:8.0f} GFLOP/s, best {best:.0f}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
