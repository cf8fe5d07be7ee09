"""Draws the figures of the book into docs/book/figures.

    python -m tests.book.figures [--corpus FILE] [--only NAME]

Each takes seconds on one core. The ladder's figure is copied from a run of `python -m scratch_models.ladder`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch

from scratch_models.corpus.text_files import read_text, tiny_shakespeare
from scratch_models.rungs.bigram import bigram_of_counts
from tests.house.repository import ROOT
from tokenizer_ext.bpe.bpe import BytePairEncoding, train_bpe
from tokenizer_ext.pages.plots import new_figure

FIGURES = ROOT / "docs" / "book" / "figures"
# Text as text: smaller, and found by a search. No date and no random names: drawn again, the file is the same.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "book", "font.family": "sans-serif"}


def bytes_per_token(text: str) -> Any:
    """How much text a token holds, against the size of the vocabulary."""
    cut = len(text) * 9 // 10
    learned, held_out = text[:cut], text[cut:]
    sizes = [256, 300, 400, 600, 1000, 1500, 2200, 3200]
    ranks = train_bpe([learned], max(sizes)).ranks
    smaller = [BytePairEncoding({token: rank for token, rank in ranks.items() if rank < size}) for size in sizes]
    figure = new_figure(3.5)
    axes = figure.subplots()
    for name, part in (("learned from", learned[: len(held_out)]), ("held out", held_out)):
        gained = [len(part.encode()) / len(bpe.encode(part)) for bpe in smaller]
        axes.plot(sizes, gained, marker="o", label=name)
    axes.set(xlabel="tokens of the vocabulary", ylabel="bytes a token")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def bigram_counts(text: str) -> Any:
    """The probability of each letter after each letter, as counted."""
    letters = [*" abcdefghijklmnopqrstuvwxyz"]
    number = {letter: index for index, letter in enumerate(letters)}
    ids = torch.tensor([number.get(character, 0) for character in text.lower()])
    probabilities = bigram_of_counts(ids, len(letters)).token_embedding_table.weight.exp().detach()
    figure = new_figure(7)
    axes = figure.subplots()
    shown = axes.imshow(probabilities, cmap="Blues")
    axes.set_xticks(range(len(letters)), ["_", *letters[1:]])
    axes.set_yticks(range(len(letters)), ["_", *letters[1:]])
    axes.set(xlabel="next character", ylabel="this character (_ is all that is no letter)")
    figure.colorbar(shown, label="probability")
    return figure


FIGURES_OF_THE_BOOK: dict[str, Callable[[str], Any]] = {
    function.__name__: function for function in (bytes_per_token, bigram_counts)
}


def draw(name: str, text: str, folder: Path) -> Path:
    """Draws one figure of this text into a folder."""
    path = folder / f"{name}.svg"
    with matplotlib.rc_context(STYLE):
        FIGURES_OF_THE_BOOK[name](text).savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    """Draws what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="a text file; Tiny Shakespeare by default")
    parser.add_argument("--only", choices=FIGURES_OF_THE_BOOK, help="one figure; all by default")
    parser.add_argument("--output_dir", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    text = read_text(arguments.corpus) if arguments.corpus else tiny_shakespeare()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name in [arguments.only] if arguments.only else FIGURES_OF_THE_BOOK:
        print(f"Drawn: {draw(name, text, arguments.output_dir)}")


if __name__ == "__main__":
    main()
