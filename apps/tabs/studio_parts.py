"""What the tabs of the studio share: the service's parts, and which models are shown first."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apps.api.parts import Parts

if TYPE_CHECKING:
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
    examples: tuple[str, ...] = ()
    """Questions that the run was not trained on."""

    @property
    def names(self) -> list[str]:
        """Every model that can be asked now, those of the command line first."""
        return [model.name for model in self.parts.names.all()]

    def open(self, name: str) -> "ServedModel":
        """A model by its name, once it is in memory; waits for that.

        Raises:
            InputError: there is no such model, or it cannot be opened.
        """
        return self.parts.pool.open(self.parts.names.place_of(name)).result()
