"""The colours and fonts of every page, reports and studio: slate and teal, for light and for dark.

They are those of Tailwind's palette (https://tailwindcss.com/docs/colors), which Gradio's themes are written in. Text
has a contrast of at least 4.5 to what it stands on, in both (WCAG 2.2, 1.4.3).
"""

from typing import NamedTuple

FONT = "system-ui, sans-serif"
MONO = "ui-monospace, Menlo, Consolas, monospace"
"""The reader's own, so that none is fetched."""


class Colour(NamedTuple):
    """One for each mode."""

    light: str
    dark: str


PALETTE = {
    "text": Colour("#1e293b", "#f1f5f9"),
    "quiet": Colour("#586579", "#a3b1c4"),
    "line": Colour("#e2e8f0", "#334155"),
    "back": Colour("#ffffff", "#0f172a"),
    "raised": Colour("#f4f7fa", "#1e293b"),
    "accent": Colour("#0f766e", "#2dd4bf"),
    "on-accent": Colour("#ffffff", "#042f2e"),
    "good": Colour("#ccfbf1", "#134e4a"),
    "on-good": Colour("#115e59", "#99f6e4"),
}
"""What each colour is for: text, text beside it, lines, the page, what lies on it, what is chosen, what is learned."""


def variables() -> str:
    """The palette as variables of CSS, the dark ones where the reader's system asks for them.

    >>> ["--accent: #0f766e;" in line for line in variables().splitlines()]
    [True, False]
    """
    light, dark = (
        " ".join(f"--{name}: {getattr(colour, mode)};" for name, colour in PALETTE.items()) for mode in Colour._fields
    )
    return (
        f":root {{ color-scheme: light dark; {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    )
