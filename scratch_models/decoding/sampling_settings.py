"""How the next id is chosen, as settings ask for it; `sampling.py` does it."""

import math
from dataclasses import dataclass

from configs import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next id is chosen. Order: temperature, then top-k, then top-p of what top-k left, as in transformers."""

    temperature: float = 0.8
    """Divides the logits; 0 takes the likeliest id every time."""
    top_k: int = 0
    """Only the k likeliest ids can be drawn; 0 is off."""
    top_p: float = 1.0
    """Only the likeliest ids that together hold this probability can be drawn; 1 is off (Holtzman et al. 2020, 3.1)."""
    seed: int = 0
    """Same seed, same row, same logits: same ids."""

    def __post_init__(self) -> None:
        # A smaller temperature draws no other ids than 0 does, and would overflow single precision.
        if not (self.temperature == 0 or 1e-6 <= self.temperature < math.inf):
            raise InputError(f"temperature is {self.temperature}, expected 0 (greedy) or a number from 1e-6 up, as 0.8")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}, expected 0 (off) or a positive number of ids")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}, expected more than 0 and at most 1 (off)")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}, expected 0 or more")
