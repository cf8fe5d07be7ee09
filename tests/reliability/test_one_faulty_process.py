"""What is not finite in one of two processes alone stops both before the update, and the last good checkpoint stays."""

import math
import re
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scratch_models.checkpoints.checkpoint import find_damage, list_checkpoints
from scratch_models.loop.optimizer_step import Stepper
from tests.reliability.small_runs import RUNS, metrics_of, weights_of, write_inputs
from tests.reliability.two_processes import Ended, in_two_processes

STEP = 7
"""The step that is spoilt; there are checkpoints after 5 and 10."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


def spoil_loss(stepper: Stepper, value: float) -> None:
    def spoil(_module, _given, loss):
        return loss * value

    _loss_model(stepper).register_forward_hook(spoil)


def spoil_gradient(stepper: Stepper, value: float) -> None:
    stepper._trained()[0].register_hook(lambda gradient: gradient * value)


def spoil_weights(stepper: Stepper, value: float) -> None:
    with torch.no_grad():
        next(_loss_model(stepper).parameters()).fill_(value)


def spoil_state(stepper: Stepper, value: float) -> None:
    next(iter(stepper.optimizers[0].state.values()))["exp_avg"].fill_(value)


def _loss_model(stepper: Stepper) -> nn.Module:
    assert isinstance(stepper.prepared, DistributedDataParallel)
    return stepper.prepared.module


FAULTS: dict[str, Callable[[Stepper, float], None]] = {
    "loss": spoil_loss,
    "gradient": spoil_gradient,
    "base weights": spoil_weights,
    "optimizer state": spoil_state,
}
CASES = [(kind, fault, math.nan) for kind in RUNS for fault in FAULTS]
CASES += [("sft", "gradient", math.inf), ("from scratch", "loss", math.inf)]


def run_with_fault(inputs: Path, run: Path, kind: str, fault: str, value: float, rank: int) -> None:
    take = Stepper.take

    def take_spoilt(stepper, step):
        if rank == 1 and step + 1 == STEP:
            FAULTS[fault](stepper, value)
        return take(stepper, step)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Stepper, "take", take_spoilt)
        RUNS[kind](inputs, run)


def stop_and_go_on(inputs: Path, tmp_path: Path, kind: str, fault: str, value: float) -> None:
    run = tmp_path / "run"
    ended = in_two_processes(partial(run_with_fault, inputs, run, kind, fault, value))
    check_stopped(ended, fault)
    (left,) = list_checkpoints(run / "checkpoints")
    assert left.name == "step_00000005" and find_damage(left) is None
    assert all(math.isfinite(line.get("loss_nats", 0)) for line in metrics_of(run))
    gone_on = in_two_processes(lambda _rank: RUNS[kind](inputs, run, resume=True))
    assert [one.status for one in gone_on] == [0, 0], gone_on
    assert metrics_of(run)[-1]["step"] == 12
    assert all(bool(torch.isfinite(one).all()) for one in weights_of(run).values())


def check_stopped(ended: list[Ended], fault: str) -> None:
    assert [one.status for one in ended] == [2, 2], ended
    assert not ended[1].said, ended[1].said
    line = ended[0].said.splitlines()[-1]
    step = STEP + (fault == "optimizer state")  # its first update spoils the weights of that process alone
    assert re.match(rf"step {step}, which read (conversations|the blocks from tokens) [\d, and]+\d", line), line
    assert "stopped before the update" in line and "--resume goes on from the last checkpoint" in line


def test_a_loss_that_is_not_finite_in_one_process_stops_both(inputs, tmp_path):
    stop_and_go_on(inputs, tmp_path, "from scratch", "loss", math.nan)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "fault", "value"), CASES)
def test_whatever_is_not_finite_in_one_process_stops_both(inputs, tmp_path, kind, fault, value):
    stop_and_go_on(inputs, tmp_path, kind, fault, value)


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_state_that_one_process_would_save_with_nan_ends_both(inputs, tmp_path, rank):
    def run(own: int) -> None:
        take = Stepper.take

        def take_and_spoil(stepper, step):
            metrics = take(stepper, step)
            if own == rank and step + 1 == 10:
                spoil_state(stepper, math.nan)
            return metrics

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Stepper, "take", take_and_spoil)
            RUNS["from scratch"](inputs, tmp_path / "run")

    ended = in_two_processes(run)
    assert [one.status for one in ended] == [2, 2] and not ended[1].said, ended
    line = ended[0].said.splitlines()[-1]
    assert re.match(rf"step 10: [\d,]+ of [\d,]+ numbers of .* are not finite in process {rank}, expected", line), line
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step_00000005"]


FULL = {"best": 4_000, "a checkpoint": 12_000}
"""Bytes that a file of the main process may have, so that what is named does not fit."""


@pytest.mark.parametrize("what", ["best", pytest.param("a checkpoint", marks=pytest.mark.long)])
def test_a_full_disk_of_the_main_process_is_one_line_and_ends_both(inputs, tmp_path, what):
    def run(rank: int) -> None:
        if rank == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (FULL[what], FULL[what]))
        RUNS["from scratch"](inputs, tmp_path / "run")

    main, other = in_two_processes(run)
    assert main.status == 2 and re.search(r"needs more than [\d,]+ bytes, [\d,]+ are free", main.said), main
    assert other.status > 0 and not other.said, other
