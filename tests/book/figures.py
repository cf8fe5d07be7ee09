"""Draws the figures of the book into docs/book/figures.

    python -m tests.book.figures [--corpus FILE] [--only NAME] [--steps N]

All together take about two minutes on one core.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

from scratch_models.corpus.text_files import read_text, tiny_shakespeare
from tests.book import figures_of_attention, figures_of_learning, figures_of_text
from tests.house.repository import ROOT

FIGURES = ROOT / "docs" / "book" / "figures"
# Text as text: smaller, and found by a search. No date and no random names: drawn again, the file is the same.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "book", "font.family": "sans-serif"}
DRAWN: dict[str, Callable[[str, int], Any]] = {
    "bytes_per_token": figures_of_text.bytes_per_token,
    "bigram_counts": figures_of_text.bigram_counts,
    "temperature": figures_of_text.temperature,
    "collapse": figures_of_text.collapse,
    "descent": figures_of_learning.descent,
    "decision_surface": figures_of_learning.decision_surface,
    "bigram_gradient": figures_of_learning.bigram_gradient,
    "learning_rate": figures_of_learning.learning_rate,
    "low_rank": figures_of_learning.low_rank,
    "one_head": figures_of_attention.one_head,
    "several_heads": figures_of_attention.several_heads,
    "rotary": figures_of_attention.rotary,
}
"""By the name of the file: what makes a figure of a text, in so many steps where something is trained."""


def draw(name: str, text: str, folder: Path, steps: int) -> Path:
    """Draws one figure of this text into a folder."""
    path = folder / f"{name}.svg"
    with matplotlib.rc_context(STYLE):
        DRAWN[name](text, steps).savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    """Draws what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="a text file; Tiny Shakespeare by default")
    parser.add_argument("--only", choices=DRAWN, help="one figure; all by default")
    parser.add_argument("--steps", type=int, default=600, help="steps of each training")
    parser.add_argument("--output_dir", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    text = read_text(arguments.corpus) if arguments.corpus else tiny_shakespeare()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name in [arguments.only] if arguments.only else DRAWN:
        print(f"Drawn: {draw(name, text, arguments.output_dir, arguments.steps)}")


if __name__ == "__main__":
    main()
