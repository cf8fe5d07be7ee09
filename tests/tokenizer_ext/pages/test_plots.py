"""A plot is the same file whenever it is drawn."""

import time
from pathlib import Path

import pytest

from tokenizer_ext.pages.plots import as_data_uri, new_figure, save_figure


def _figure():
    pytest.importorskip("matplotlib")
    figure = new_figure(2)
    axes = figure.subplots()
    axes.plot([1, 3, 2], marker="o", label="loss")
    axes.legend()
    return figure


@pytest.mark.parametrize("kind", ["svg", pytest.param("pdf", marks=pytest.mark.long), "png"])
def test_the_same_figure_is_the_same_file_a_second_later(tmp_path: Path, kind: str):
    figure, second, inside = _figure(), _figure(), as_data_uri(_figure())
    save_figure(figure, tmp_path / f"one.{kind}")
    time.sleep(1.01)
    save_figure(second, tmp_path / f"two.{kind}")
    assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert as_data_uri(_figure()) == inside
