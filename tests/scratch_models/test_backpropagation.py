import json
import re
import sys
from pathlib import Path

import pytest

from configs import InputError, run_entry
from scratch_models.backpropagation import BackpropagationSettings, main

SHORT = ("--points", "8", "--width", "2", "--max_steps", "7")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["backpropagation", *arguments])
    run_entry(main, BackpropagationSettings)


def test_it_leaves_a_graph_a_plot_and_its_losses_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")  # no dot
    folder = tmp_path / "run"
    run(monkeypatch, *SHORT, "--output_dir", str(folder))
    printed = capsys.readouterr().out
    assert "Not drawn, as the program dot is not installed: apt install graphviz" in printed
    assert str(folder / "neuron.dot") in printed and str(folder / "decision_surface.svg") in printed
    assert (folder / "neuron.dot").read_text().startswith("digraph {")
    assert "<svg" in (folder / "decision_surface.svg").read_text()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(1, 8), 7]
    assert lines[6]["loss_nats"] < lines[0]["loss_nats"]
    assert not (folder / "neuron.svg").exists()


def test_equal_seeds_give_equal_losses_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for number, seed in enumerate("001"):
        run(monkeypatch, *SHORT, "--seed", seed, "--output_dir", str(tmp_path / f"{number}"))
        lines = (tmp_path / f"{number}" / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line).get("loss_nats") for line in lines])
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--points", "1"), "points is 1, expected at least 2"),
        (("--noise", "-0.5"), "noise is -0.5, expected between 0 and 10, as 0.1"),
        (("--learning_rate", "0"), "learning_rate is 0.0, expected more than 0 and at most 100, as 2.0"),
        (("--layers", "-1"), "layers is -1, expected at least 0"),
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
        run(monkeypatch, *arguments, "--output_dir", str(tmp_path / "run"))
    assert left.value.code == 2
    assert capsys.readouterr().err == message + "\n"
    assert list(tmp_path.iterdir()) == []


def test_a_step_so_large_that_the_loss_overflows_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = BackpropagationSettings(points=20, layers=0, max_steps=9, learning_rate=100.0, noise=10.0)
    with pytest.raises(InputError, match=re.escape("learning_rate is 100.0, and the loss grew beyond all numbers")):
        main(settings)
