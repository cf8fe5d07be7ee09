"""How replies come about, as settings ask for it; `best_of.py` does it."""

from dataclasses import dataclass
from typing import Literal

from scratch_models.decoding.sampling_settings import Sampling

BestBy = Literal["likelihood", "majority"]
TEMPERATURE_OF_SEVERAL = 0.7
"""At which several replies are drawn by default; Wang et al. 2022, section 3.1, draw at 0.5 to 0.7."""


@dataclass(frozen=True)
class Draw:
    """How many replies to each question are drawn, how, and which of them is taken; by default the greedy one."""

    replies: int = 1
    by: BestBy = "likelihood"
    sampling: Sampling = Sampling(temperature=0)  # noqa: RUF009 - it is frozen
