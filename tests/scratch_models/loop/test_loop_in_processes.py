"""The loop trains the same model in 1, 2 and 4 processes, on two machines, and sharded; each launch runs once."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scratch_models.checkpoints.checkpoint import load_newest_checkpoint
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import train
from tests.scratch_models.launches import LAUNCHES, PROCESSES, launch
from tests.scratch_models.loop_in_processes import ADAMW, STEPS, UnevenBatches, main, make_model

pytestmark = pytest.mark.long

SCRIPT = "tests/scratch_models/loop_in_processes.py"


@dataclass(frozen=True)
class Launched:
    """What a launch left."""

    way: str
    folder: Path

    @property
    def facts(self) -> dict[str, float]:
        return json.loads((self.folder / "facts.json").read_text())

    def metrics(self, run: str) -> list[dict[str, float]]:
        return RunFolder(self.folder / run).read_metrics()

    def losses(self, run: str) -> list[float]:
        return [entry["loss_nats"] for entry in self.metrics(run)]

    def weights(self, run: str, name: str = "after") -> dict[str, torch.Tensor]:
        return load_file(self.folder / run / f"{name}.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Launched:
    """The same runs in this one process."""
    folder = tmp_path_factory.mktemp("alone")
    main(folder)
    return Launched("one process", folder)


@pytest.fixture(scope="module", params=LAUNCHES, ids=str)
def launched(request, tmp_path_factory) -> Launched:
    folder = tmp_path_factory.mktemp("launched")
    launch(SCRIPT, LAUNCHES[request.param], folder)
    return Launched(request.param, folder)


def test_as_many_processes_ran_as_were_asked_for(launched: Launched):
    assert launched.facts["processes"] == PROCESSES[launched.way]
    assert launched.facts["on_this_machine"] == (1 if "machines" in launched.way else PROCESSES[launched.way])


def test_the_losses_are_those_of_one_process(launched: Launched, alone: Launched):
    assert len(launched.losses("plain")) == STEPS
    assert launched.losses("plain") == pytest.approx(alone.losses("plain"), abs=1e-5)
    assert launched.losses("unbroken") == pytest.approx(alone.losses("unbroken"), abs=1e-5)


def test_a_mean_per_process_would_not_pass_for_the_mean_over_all(launched: Launched, alone: Launched):
    assert launched.losses("per_rank_mean")[1:] != pytest.approx(alone.losses("plain")[1:], abs=1e-5)


def test_gradients_and_held_out_figures_are_those_of_one_process(launched: Launched, alone: Launched):
    for name in ("gradient_norm", "supervised_tokens", "tokens", "held_out_loss_nats"):
        ours = [entry[name] for entry in launched.metrics("plain") if name in entry]
        assert ours == pytest.approx([entry[name] for entry in alone.metrics("plain") if name in entry], abs=1e-5)


def test_the_main_process_alone_can_let_the_model_speak(launched: Launched, alone: Launched):
    said, expected = ([entry["said"] for entry in one.metrics("plain") if "said" in entry] for one in (launched, alone))
    assert len(said) == 3 and said == pytest.approx(expected, rel=1e-4)


def test_the_weights_and_the_checkpoint_are_those_of_one_process(launched: Launched, alone: Launched):
    newest = load_newest_checkpoint(launched.folder / "plain" / "checkpoints")[0]
    assert newest.step == STEPS
    for name, weight in alone.weights("plain").items():
        torch.testing.assert_close(launched.weights("plain")[name], weight, atol=1e-5, rtol=0)
        torch.testing.assert_close(newest.tensors["trained"][name], weight, atol=1e-5, rtol=0)


def test_a_process_holds_its_share_of_parameters_and_optimizer_state_only_where_they_are_sharded(launched: Launched):
    share = 1 / PROCESSES[launched.way] if "shards" in launched.way else 1
    # Shards of uneven length differ by a row, which is much of so small a model.
    assert share <= launched.facts["parameters_held"] <= share * 1.1
    assert share <= launched.facts["state_held"] <= share * 1.1


def test_after_training_the_model_is_whole_plain_and_made_of_the_same_parameters(launched: Launched, alone: Launched):
    assert launched.facts["same_parameters"] and launched.facts["same_modules"]
    assert launched.facts["loss_alone"] == pytest.approx(alone.facts["loss_alone"], abs=1e-5)


def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(launched: Launched):
    assert [entry["step"] for entry in launched.metrics("broken")] == list(range(1, 13))
    if launched.way == "four processes":
        # DDP fills new buckets after its first step, so that sums of more than two numbers are taken in another order.
        assert launched.losses("broken") == pytest.approx(launched.losses("unbroken"), abs=1e-6)
        return
    assert launched.losses("broken") == launched.losses("unbroken")
    for name, weight in launched.weights("unbroken").items():
        assert torch.equal(launched.weights("broken")[name], weight), name


def test_one_process_goes_on_from_the_checkpoint_of_several(launched: Launched, tmp_path: Path):
    run = RunFolder(tmp_path / "resumed")
    unbroken = launched.folder / "unbroken"
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "step_00000010").symlink_to(unbroken / "checkpoints" / "step_00000010")
    run.metrics.write_text("".join((unbroken / "metrics.jsonl").read_text().splitlines(keepends=True)[:10]))
    loss_model = make_model()
    settings = replace(ADAMW, resume=True, checkpoint_steps=0)
    train(
        loss_model,
        UnevenBatches(),
        make_optimizers(loss_model, settings),
        settings,
        accelerator=make_accelerator("fp32"),
        run=run,
        evaluate=lambda step: {},
    )
    losses = [entry["loss_nats"] for entry in run.read_metrics()]
    assert losses == pytest.approx(launched.losses("unbroken"), abs=1e-5)


def test_every_process_stops_with_the_main_one_and_takes_its_best_weights(launched: Launched):
    assert [entry["step"] for entry in launched.metrics("best")] == list(range(1, 9))
    best = load_newest_checkpoint(launched.folder / "best" / "best")[0]
    assert best.step == 4
    for rank in range(PROCESSES[launched.way]):
        for name, weight in launched.weights("best", f"rank_{rank}").items():
            assert torch.equal(weight, best.tensors["trained"][name])
