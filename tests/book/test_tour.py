"""The tour runs from its first cell to its last, and each cell shows what the text beside it says."""

import json
import os
import subprocess
import sys

import pytest

from tests.house.repository import ROOT

TOUR = ROOT / "docs" / "tour.ipynb"


def test_the_tour_is_kept_without_outputs():
    cells = [cell for cell in json.loads(TOUR.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.long
def test_the_tour_runs_from_top_to_bottom(tmp_path):
    (tmp_path / "tour.ipynb").write_bytes(TOUR.read_bytes())
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "tour.ipynb", "--output", "done"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    cells = json.loads((tmp_path / "done.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    tokens, counted, trained, plot, samples, reply, words = outputs
    assert "".join(eval(_shown(tokens))) == "the default value of the parameter"
    assert float(_shown(trained)) < float(_shown(counted)) - 0.1  # a GPT beats the counted bigram
    assert any("image/png" in output.get("data", {}) for output in plot)
    assert "GPT ---" in "".join("".join(output["text"]) for output in samples if output["output_type"] == "stream")
    assert eval(_shown(reply)).strip()
    word, pieces, moved = eval(_shown(words))
    assert word.strip().isalpha() and (pieces, moved) == (1, 0)


def _shown(outputs: list[dict]) -> str:
    """What the last line of a cell came to."""
    return "".join(text for output in outputs for text in output.get("data", {}).get("text/plain", []))
