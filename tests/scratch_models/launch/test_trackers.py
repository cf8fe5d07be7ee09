from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import accelerate.tracking
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType

from configs import InputError
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.run_record import record_start, start_run
from scratch_models.loop.training import train
from tests.scratch_models.ragged_training import RaggedBatches, make_loss_model

SETTINGS = LoopSettings(max_steps=3, learning_rate=0.01, evaluation_steps=2, checkpoint_steps=0, log_with="tensorboard")


class Notebook(GeneralTracker):
    """Stands for TensorBoard, which is not installed here."""

    name = "tensorboard"
    requires_logging_directory = True
    written: ClassVar[list[Any]] = []

    def __init__(self, run_name: str, logging_dir: str) -> None:
        super().__init__()
        self.written.append(("project", run_name, logging_dir))

    @property
    def tracker(self) -> list[Any]:
        return self.written

    def store_init_configuration(self, values: dict) -> None:
        self.written.append(("settings", values))

    def log(self, values: dict, step: int | None, **kwargs: Any) -> None:
        self.written.append((step, values))

    def finish(self) -> None:
        self.written.append(("finished",))


@pytest.fixture
def notebook(monkeypatch) -> list[Any]:
    """What the tracker was given."""
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Notebook)
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    monkeypatch.setattr(Notebook, "written", [])
    return Notebook.written


def run_loop(folder: Path, settings: LoopSettings) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` of a run with a tracker, as an entry makes it."""
    accelerator = make_accelerator("fp32", settings.log_with, folder)
    run = start_run(RunFolder(folder), settings, accelerator, {})
    loss_model = make_loss_model()

    def evaluate(step: int) -> dict[str, Any]:
        return {"held_out_bits_per_byte": 2.0, "sample_replies": ["text"]}

    record_start(evaluate, run, settings, accelerator)
    optimizers = make_optimizers(loss_model, settings)
    train(loss_model, RaggedBatches(), optimizers, settings, accelerator=accelerator, run=run, evaluate=evaluate)
    accelerator.end_training()
    return run.read_metrics()


def test_a_tracker_gets_the_settings_and_the_numbers_of_every_line(tmp_path: Path, notebook: list[Any]):
    lines = run_loop(tmp_path / "run", SETTINGS)
    (_, project, folder), (_, settings), *steps, last = notebook
    assert (project, folder) == ("graft", str(tmp_path / "run" / "trackers"))
    assert settings["max_steps"] == 3 and settings["output_dir"] == "None"
    assert [step for step, _ in steps] == [0, 1, 2, 3]
    for (_, values), line in zip(steps, lines, strict=True):
        assert values == {name: value for name, value in line.items() if name not in ("step", "sample_replies")}
    assert last == ("finished",)


def test_without_a_tracker_nothing_is_logged(tmp_path: Path, notebook: list[Any]):
    run_loop(tmp_path / "run", replace(SETTINGS, log_with=None))
    assert notebook == []
    assert not (tmp_path / "run" / "trackers").exists()


def test_a_tracker_named_twice_is_started_once(tmp_path: Path, notebook: list[Any]):
    run_loop(tmp_path / "run", replace(SETTINGS, log_with="tensorboard, tensorboard,"))
    assert [entry[0] for entry in notebook].count("project") == 1


@pytest.mark.parametrize(
    ("log_with", "said"),
    [
        ("tensorbord", "log_with: found 'tensorbord', expected one of aim, .*: did you mean tensorboard?"),
        ("tensorboard,zzz", "log_with: found 'zzz', expected one of .*: leave it out?"),
        ("wandb", "log_with: wandb is not installed: `pip install wandb`, or leave it out"),
    ],
)
def test_what_accelerate_would_leave_out_is_refused_in_one_line(notebook: list[Any], log_with: str, said: str):
    with pytest.raises(InputError, match=said) as refused:
        make_accelerator("fp32", log_with)
    assert "\n" not in str(refused.value)
