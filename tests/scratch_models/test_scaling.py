import json
import shutil
import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from configs import run_entry
from scratch_models.scaling import ScalingSettings, main
from scratch_models.scaling_laws.law import Measured, ScalingLaw, fit_law
from scratch_models.scratch_folder import load_scratch_model

TINY = (
    "--sizes",
    "1x16",
    "2x16",
    "--steps",
    "4",
    "8",
    "16",
    "--held_back_size",
    "2x32",
    "--held_back_steps",
    "32",
    "--seeds",
    "1",
)
SHORT = ("--block_size", "16", "--blocks_per_batch", "2")


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n\n".join(topics[name] for name in ("class", "import"))
    Path("corpus.txt").write_bytes(text.encode("ascii", "ignore"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling", "--corpus", "corpus.txt", *TINY, *SHORT, *arguments])
    run_entry(main, ScalingSettings)


@pytest.mark.long
def test_a_study_trains_fits_predicts_and_compares_and_what_is_there_is_not_trained_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--output_dir", "study")
    said = capsys.readouterr().out
    figures: dict[str, Any] = json.loads(Path("study/scaling.json").read_text())
    fitted = [Measured(**run) for run in figures["fitted"]]
    assert [(one.parameters, one.tokens) for one in fitted] == sorted(
        [(one.parameters, one.tokens) for one in fitted], key=lambda one: one[0] * one[1]
    )
    assert {one.tokens for one in fitted} == {128, 256, 512}
    assert fit_law(fitted) == ScalingLaw(**figures["law"])
    held_back = figures["held_back"]
    model, _ = load_scratch_model("study/2x32_1024_seed0")
    assert sum(parameter.numel() for parameter in model.parameters()) == held_back["parameters"]
    assert held_back["parameters"] * held_back["tokens"] >= 4 * max(one.parameters * one.tokens for one in fitted)
    percent = 100 * (held_back["predicted_nats"] / held_back["loss_nats"] - 1)
    assert f"difference: {percent:+.2f} %" in said
    assert "<svg" in Path("study/scaling.svg").read_text()

    weights = {path: path.stat().st_mtime_ns for path in Path("study").rglob("model.safetensors")}
    assert len(weights) == 7
    shutil.rmtree("study/2x16_256_seed0/final")  # what a kill leaves
    run(monkeypatch, "--output_dir", "study", "--resume")
    assert json.loads(Path("study/scaling.json").read_text()) == figures
    assert capsys.readouterr().out.count("was there") == 6
    again = {path for path, made in weights.items() if path.stat().st_mtime_ns != made}
    assert again == {Path("study/2x16_256_seed0/final/model.safetensors")}


def test_every_size_is_trained_for_every_number_of_steps_with_every_seed() -> None:
    grid = ScalingSettings(sizes=["2x32", "1x16"], steps=["20", "100"], seeds=3, seed=5).grid()
    found = [(run.layers, run.width, run.heads, run.max_steps, run.seed) for run in grid]
    expected = [(1, 16, 1), (2, 32, 2)]
    assert found == [(*shape, steps, seed) for shape in expected for steps in (20, 100) for seed in (5, 6, 7)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--held_back_steps", "16"), "held_back: 2x32_512_seed0 takes "),
        (("--sizes", "2x20"), "sizes: found '2x20', expected a width that is a multiple of 16"),
        (("--sizes", "16", "2x32"), "sizes: found '16', expected layers and width, as 2x64"),
        (("--steps", "4", "many"), "steps: found 4 many, expected whole numbers"),
        (("--steps", "0"), "max_steps: found 0, expected at least 1"),
        (("--seeds", "0"), "seeds: found 0, expected at least 1"),
        (("--sizes", "1x16", "--steps", "4"), "1 runs, expected at least 6"),
        (("--corpus", "missing.txt"), "missing.txt: no such file"),
        (("--block_size", "100000"), "expected at least 100001 for one block"),
        (("--resume",), "resume: which run?"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, *arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not Path("runs").exists()
