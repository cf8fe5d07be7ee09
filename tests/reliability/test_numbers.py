"""Numbers that are not finite stop a run before they are saved, and a run that gets worse says so."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.file_hash import file_sha256
from scratch_models.checkpoints.checkpoint import MANIFEST
from scratch_models.loop import training
from tests.reliability.small_runs import RUNS, metrics_of, run_from_scratch, run_sft, weights_of, write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


def spoil_after(step: int, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a number into the optimizer's state once so many steps are done."""
    take = training.Course.take_step

    def take_and_spoil(course, number):
        found = take(course, number)
        if number + 1 == step:
            state = next(iter(course.stepper.optimizers[0].state.values()))
            state["exp_avg"].view(-1)[0] = value
        return found

    monkeypatch.setattr(training.Course, "take_step", take_and_spoil)


@pytest.mark.parametrize("value", [math.nan, pytest.param(math.inf, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", RUNS)
def test_a_state_that_is_not_finite_is_not_saved_and_a_resume_takes_the_last_good_one(
    inputs, tmp_path, capsys, kind, value
):
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as ended:
        spoil_after(10, value, patched)
        RUNS[kind](inputs, tmp_path / "run", evaluation_steps=0)
    said = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2
    assert said.startswith("step 10: 1 of ") and "are not finite" in said and "--resume" in said
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_00000005"]
    RUNS[kind](inputs, tmp_path / "run", resume=True, evaluation_steps=0)
    assert metrics_of(tmp_path / "run")[-1]["step"] == 12
    assert all(bool(torch.isfinite(one).all()) for one in weights_of(tmp_path / "run").values())


def test_a_checkpoint_that_an_older_version_saved_with_nan_is_passed_over(inputs, tmp_path, capsys):
    run_from_scratch(inputs, tmp_path / "run")
    capsys.readouterr()
    newest = tmp_path / "run" / "checkpoints" / "step_00000012"
    tensors = load_file(newest / "trained.safetensors")
    next(iter(tensors.values())).view(-1)[3] = math.nan
    save_file(tensors, newest / "trained.safetensors")
    hashes = json.loads((newest / MANIFEST).read_text())
    hashes["trained.safetensors"] = file_sha256(newest / "trained.safetensors")
    (newest / MANIFEST).write_text(json.dumps(hashes))
    run_from_scratch(inputs, tmp_path / "run", resume=True)
    assert "passed over step_00000012: 1 of " in capsys.readouterr().out


def test_a_loss_that_explodes_is_said_with_what_the_step_read(inputs, tmp_path, capsys):
    full = {"method": "full", "learning_rate": 1e4, "lora_dropout": 0, "merge": False, "gradient_clip": 1e9}
    try:
        run_sft(inputs, tmp_path / "run", **full)
    except SystemExit as ended:  # it may also overflow at once
        said = capsys.readouterr().err
        assert ended.code == 2 and "which read conversations" in said and "stopped before the update" in said
    else:
        assert "The loss went up" in capsys.readouterr().out
        assert any("loss_jumped" in line for line in metrics_of(tmp_path / "run"))


@pytest.mark.parametrize("runs", [2, pytest.param(10, marks=pytest.mark.long)])
def test_clean_runs_raise_no_alarm(inputs, tmp_path, capsys, runs):
    for seed in range(runs):
        run_from_scratch(inputs, tmp_path / str(seed), seed=seed, max_steps=30, learning_rate=0.01)
        assert "The loss" not in capsys.readouterr().out
