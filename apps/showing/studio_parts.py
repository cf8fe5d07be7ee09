"""What the tabs of the studio share: the service's parts, and which models are shown first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from apps.api.parts import Parts

if TYPE_CHECKING:
    from finetune.replies.side import Side
    from finetune.serving.served_model import ServedModel


@dataclass(frozen=True, kw_only=True)
class StudioParts:
    """What stands behind every tab."""

    parts: Parts
    base: str
    """Name of the model that is shown first on the left."""
    assistant: str | None
    """Name of the model beside it; None where there is no run yet."""
    folder: Path
    """Where votes and what the tabs make are kept; the service's folder."""
    servers: "Mapping[str, Side]" = field(default_factory=dict)
    """Models on other servers that can be asked too, by name."""
    examples: tuple[str, ...] = ()
    """Questions that the run was not trained on."""
    calculator: bool = False
    """Whether a calculator completes arithmetic on all sides, since the assistant learned to use one."""

    @property
    def names(self) -> list[str]:
        """Every model of this service that can be asked now, those of the command line first."""
        return [model.name for model in self.parts.names.all()]

    def open(self, name: str) -> "ServedModel":
        """A model by its name, once it is in memory; waits for that.

        Raises:
            InputError: there is no such model, or it cannot be opened.
        """
        return self.parts.pool.open(self.parts.names.place_of(name)).result()
