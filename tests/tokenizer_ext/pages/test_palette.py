"""Every text of the palette can be read on what it stands on, in light and in dark (WCAG 2.2, 1.4.3)."""

import pytest

from tokenizer_ext.pages.palette import PALETTE

LEAST_CONTRAST = 4.5
PAIRS = [
    *[(text, ground) for text in ("text", "quiet", "accent") for ground in ("back", "raised")],
    *[("on-accent", "accent"), ("on-good", "good")],
]


def _luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, by the definition of WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_definition_gives_its_published_extremes():
    assert (_luminance("#000000"), round(_luminance("#ffffff"), 9)) == (0.0, 1.0)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_a_text_has_enough_contrast(text, ground, mode):
    darker, lighter = sorted(_luminance(getattr(PALETTE[name], mode)) for name in (text, ground))
    assert (lighter + 0.05) / (darker + 0.05) >= LEAST_CONTRAST
