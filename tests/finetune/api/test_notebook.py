"""The notebook of the documents runs from its first cell to its last, on the real model and on a tiny one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.finetune.tiny_models import save_tiny_base
from tests.house.repository import ROOT
from tests.real_tokenizers import smollm2_folder

NOTEBOOK = ROOT / "docs" / "tune_from_python.ipynb"


def _executed(folder: Path, base: str = "smollm2") -> list[dict]:
    """The cells of code after `jupyter nbconvert --execute`, with another base in the place of SmolLM2."""
    (folder / "given.ipynb").write_text(NOTEBOOK.read_text(encoding="utf-8").replace("smollm2", base), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "given.ipynb", "--output", "done.ipynb"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython")},
    )
    assert ended.returncode == 0, ended.stderr
    cells = json.loads((folder / "done.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def _shown(cell: dict, kind: str = "text/plain") -> str:
    return "".join(text for output in cell["outputs"] for text in output.get("data", {}).get(kind, []))


def _printed(cell: dict, stream: str) -> str:
    return "".join(text for output in cell["outputs"] if output.get("name") == stream for text in output["text"])


def _expect_all(cells: list[dict]) -> None:
    tuned, metrics, said, both, figures, second, better, merged, extended = cells[1:]
    assert "data:image/svg+xml" in _shown(tuned, "text/html") and "<runs/sft-1: " in _shown(tuned)
    assert re.search(r"[a-z] \d\d:\d\d", _printed(tuned, "stderr")), "no progress is shown"
    assert [step for step, _ in eval(_shown(metrics))] == [1, 2, 3, 4]
    assert _printed(said, "stdout").count("\n") >= 2  # a tiny model may say nothing
    assert "tuned:" in _shown(both) and "95 % intervals" in _shown(figures)
    assert eval(_shown(second))[0][0].startswith("bits per byte") and "<runs/dpo-1: " in _shown(better)
    assert eval(_shown(merged))[:2] == ("merged", True) and eval(_shown(extended)) == (True, 50)


def test_the_notebook_is_kept_without_outputs_in_ten_cells():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 10 and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.long
def test_the_notebook_runs_on_a_tiny_model(tmp_path):
    _expect_all(_executed(tmp_path, str(save_tiny_base(tmp_path / "tiny"))))


@pytest.mark.long
def test_the_notebook_runs_on_smollm2(tmp_path):
    smollm2_folder()  # skips where it is not installed
    cells = _executed(tmp_path)
    _expect_all(cells)
    assert "Llama" in _shown(cells[8])
