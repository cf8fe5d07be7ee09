import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import run_entry
from scratch_models.decoding.generation import generate
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.embedded.default import EMBEDDED_BASE
from scratch_models.image_tokens import ImageTokensSettings, main
from scratch_models.image_words.code_words import codes_of
from scratch_models.scratch_folder import load_scratch_model

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'graft-lm[images]'")


def draw(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["image_tokens", *arguments])
    run_entry(main, ImageTokensSettings)


def figures_of(folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((folder / "digits.json").read_text(encoding="utf-8"))
    return figures


@pytest.mark.long
def test_a_short_run_keeps_the_base_draws_and_leaves_a_model_that_writes_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--codes", "16", "--autoencoder_steps", "60", "--max_steps", "25", "--rows_per_batch", "8")
    draw(monkeypatch, *short, "--digits_per_name", "2", "--output_dir", str(tmp_path / "run"))
    printed = capsys.readouterr().out
    figures = figures_of(tmp_path / "run")
    assert f"recognises {figures['drawn_digits_recognised']:.1%}" in printed
    assert figures["drawn_digits"] == 20 and figures["real_digits_recognised"] > 0.97
    assert figures["frozen_numbers_kept"] == 1 and figures["trained_numbers"] == 4 * 16 * 320
    assert (tmp_path / "run" / "digits.png").read_bytes().startswith(b"\x89PNG")
    base, _ = load_scratch_model(EMBEDDED_BASE)
    model, vocabulary = load_scratch_model(tmp_path / "run")
    for name, tensor in base.state_dict().items():
        rows = len(tensor) if "token_embedding" in name or "lm_head" in name else None
        assert torch.equal(model.state_dict()[name][:rows], tensor), name
    ids = list(generate(model, vocabulary.encode("seven: "), 4, Sampling(temperature=0.7)))
    assert len(ids) == 4 and (codes_of(ids, 6144, 16) is None or max(ids) < 6144 + 64)


@pytest.mark.long
def test_four_of_five_digits_asked_for_by_name_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(monkeypatch, "--output_dir", str(tmp_path / "run"))
    figures = figures_of(tmp_path / "run")
    assert figures["drawn_digits"] == 200
    assert figures["drawn_digits_recognised"] >= 0.8
    assert figures["digits_through_codes_recognised"] >= 0.9
    assert min(figures["by_name"].values()) >= 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--codes", "1"), "codes is 1, expected at least 2"),
        (("--max_steps", "0"), "max_steps: found 0, expected at least 1"),
        (("--temperature", "-1"), "temperature is -1.0"),
        (("--digits_per_name", "0"), "digits_per_name is 0"),
        (("--base", "/no/such/folder"), "/no/such/folder: no such folder"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        draw(monkeypatch, "--output_dir", str(tmp_path / "run"), *arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
