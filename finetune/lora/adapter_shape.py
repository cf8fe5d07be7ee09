"""The shape of an adapter, as settings ask for it; no library is needed to say it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

BaseBits = Literal[32, 16, 8, 4]
"""Of each weight that does not train: single precision, half as it is stored, or quantised."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """The shape of an adapter."""

    rank: int
    alpha: float
    dropout: float
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of peft's `LoraConfig`: `use_rslora`, `use_dora`, `init_lora_weights: pissa` and so on."""
    target_modules: str | Sequence[str] | None = None
    """Layers to adapt, by the ends of their names or a regular expression; by default every one in the blocks."""
