import json
import sys
from pathlib import Path
from typing import Any

import pytest

from configs import run_entry
from scratch_models.climbing import COUNTED, RUNGS
from scratch_models.decoding.generation import generate
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.ladder import LadderSettings, main
from scratch_models.scratch_folder import load_scratch_model

SMALL = ("--block_size", "8", "--blocks_per_batch", "4", "--width", "16", "--layers", "2", "--heads", "2")
SHORT = ("--max_steps", "10", "--sample_characters", "10")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """English that every Python has."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_bytes("\n\n".join(topics[name] for name in ("class", "import")).encode("ascii", "ignore"))
    return str(path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ladder", *arguments])
    run_entry(main, LadderSettings)


def figures_of(folder: Path) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    return [{name: figure for name, figure in rung.items() if name != "seconds"} for rung in figures]


@pytest.mark.long
def test_every_rung_is_trained_measured_kept_and_shown_and_two_ladders_are_equal(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        run(monkeypatch, "--corpus", corpus, *SMALL, *SHORT, "--output_dir", str(tmp_path / name))
    printed = capsys.readouterr().out
    rungs = figures_of(tmp_path / "first")
    assert [rung["rung"] for rung in rungs] == list(RUNGS)
    assert rungs == figures_of(tmp_path / "second")
    by_name = {rung["rung"]: rung for rung in rungs}
    assert by_name[COUNTED]["held_out_loss_nats"] < by_name["bigram"]["held_out_loss_nats"] < 5
    for rung in rungs:
        model, vocabulary = load_scratch_model(tmp_path / "first" / rung["rung"].replace(" ", "_"))
        assert sum(parameter.numel() for parameter in model.parameters()) == rung["parameters"]
        prompt = vocabulary.encode("import this: ")  # longer than a block
        assert len(list(generate(model, prompt, 5, Sampling(temperature=0)))) == 5
        assert f"{rung['held_out_loss_nats']:.4f} nats" in printed
    drawing = (tmp_path / "first" / "ladder.svg").read_text(encoding="utf-8")
    assert "<svg" in drawing and drawing.count("<!-- GPT -->") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--block_size", "100000"), "expected at least 100001 for one block of 100000 with its targets"),
        (("--patch_size", "3"), "block_size 8 is not a multiple of patch_size 3"),
        (("--patch_size", "32", "--block_size", "64"), "width 16 is not a multiple of patch_size 32"),
        (("--heads", "3"), "width 16 is not a multiple of heads 3"),
        (("--corpus", "no_such_file.txt"), "no_such_file.txt"),
        (("--max_steps", "0"), "max_steps: found 0, expected at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...],
    message: str,
    corpus: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, "--corpus", corpus, *SMALL, *SHORT, "--output_dir", str(tmp_path / "run"), *arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
