"""Forwards of modules exchanged for others that compute the same, and put back.

The modules, their parameters and their names stay what they are, so that peft, checkpoints and export see no change.
"""

from collections.abc import Callable
from typing import Any

from torch import nn


class SwappedForwards:
    """What is exchanged now."""

    def __init__(self) -> None:
        self._modules: dict[str, list[nn.Module]] = {}

    def swap(self, module: nn.Module, forward: Callable[..., Any], kind: str) -> None:
        """Lets calls of the module go to `forward`; `kind` is what it is counted under."""
        assert "forward" not in module.__dict__, "a forward that is swapped already"
        module.__dict__["forward"] = forward  # not by setattr, which nn.Module watches
        self._modules.setdefault(kind, []).append(module)

    def counts(self) -> dict[str, int]:
        """How many modules of each kind are exchanged."""
        return {kind: len(modules) for kind, modules in self._modules.items()}

    def undo(self) -> None:
        """Every module computes by its own class again."""
        for modules in self._modules.values():
            for module in modules:
                module.__dict__.pop("forward", None)
        self._modules.clear()
