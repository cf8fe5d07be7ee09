"""The shape of a model as a study of scaling names it."""

import re
from dataclasses import dataclass

from configs import InputError

SHAPE = re.compile(r"([1-9]\d*)x([1-9]\d*)")
HEAD_WIDTH = 16


@dataclass(frozen=True, order=True)
class Shape:
    """Layers and width; a head has a width of 16."""

    layers: int
    width: int

    @classmethod
    def read(cls, field: str, text: str) -> "Shape":
        """The shape that a setting names.

        >>> Shape.read("sizes", "2x64")
        Shape(layers=2, width=64)

        Raises:
            InputError: it names none, or one without whole heads.

        """
        found = SHAPE.fullmatch(text)
        if found is None:
            raise InputError(f"{field}: found {text!r}, expected layers and width, as 2x64")
        shape = cls(int(found[1]), int(found[2]))
        if shape.width % HEAD_WIDTH:
            raise InputError(f"{field}: found {text!r}, expected a width that is a multiple of {HEAD_WIDTH}")
        return shape

    @property
    def heads(self) -> int:
        """Heads of attention of a layer."""
        return self.width // HEAD_WIDTH
