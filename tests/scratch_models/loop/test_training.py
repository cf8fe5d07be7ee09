import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import InputError
from scratch_models.checkpoints.checkpoint import load_newest_checkpoint
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import MicroBatch, count_targets, count_tokens
from scratch_models.loop.optimizers import learning_rate_factor, make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import SummedLoss, held_out_loss, train
from scratch_models.rungs.bigram import BigramLanguageModel
from tests.house.repository import ROOT
from tests.scratch_models.ragged_training import (
    LEARNED,
    VOCABULARY,
    RaggedBatches,
    global_batch,
    make_loss_model,
    train_on_ragged_rows,
)

SETTINGS = LoopSettings(
    max_steps=9, learning_rate=1e-2, warmup_steps=2, schedule="cosine", weight_decay=0.1, evaluation_steps=4
)


class Interrupted(Exception):
    """Stands for whatever ends a run before its last step."""


class Fixed:
    """The same micro-batches in every step."""

    def __init__(self, *micro_batches: MicroBatch) -> None:
        self.cut = list(micro_batches)

    def describe(self, step: int) -> str:
        return f"batch {step}"

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[MicroBatch]:
        return self.cut


def no_evaluation(step: int) -> Mapping[str, float]:
    return {}


def run_loop(
    folder: Path,
    loss_model: nn.Module,
    settings: LoopSettings,
    *,
    batches: RaggedBatches | Fixed | None = None,
    optimizers: Sequence[torch.optim.Optimizer] | None = None,
    evaluate: Callable[[int], Mapping[str, float]] = no_evaluation,
) -> list[dict[str, float]]:
    """What `metrics.jsonl` says of each step after a run of the loop."""
    folder.mkdir(exist_ok=True)
    run = RunFolder(folder)
    train(
        loss_model,
        batches or RaggedBatches(4),
        optimizers or make_optimizers(loss_model, settings),
        settings,
        accelerator=make_accelerator("fp32"),
        run=run,
        evaluate=evaluate,
    )
    return steps_of(run)


def steps_of(run: RunFolder) -> list[dict[str, float]]:
    """The lines of optimizer steps; what was measured before the first one has a line of its own."""
    return [entry for entry in run.read_metrics() if entry["step"] > 0]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    for (name, ours), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def losses(metrics: Sequence[Mapping[str, float]]) -> list[float]:
    return [entry["loss_nats"] for entry in metrics]


def test_the_loss_is_the_mean_over_the_supervised_tokens_of_the_global_batch(tmp_path: Path):
    loss_model = make_loss_model()
    batch = global_batch(0)
    with torch.no_grad():
        expected = F.cross_entropy(loss_model.model(batch["input_ids"]).flatten(0, 1), batch["targets"].flatten())
    first = run_loop(tmp_path, loss_model, SETTINGS, batches=RaggedBatches(3))[0]
    assert first["loss_nats"] == pytest.approx(float(expected), abs=1e-6)
    assert first["supervised_tokens"] == sum(LEARNED)


@pytest.mark.parametrize("rows_per_micro_batch", [1, 3, 4])
def test_micro_batches_of_any_size_train_the_same_model(tmp_path: Path, rows_per_micro_batch: int):
    whole = train_on_ragged_rows(tmp_path / "whole")
    cut = train_on_ragged_rows(tmp_path / "cut", rows_per_micro_batch)
    assert losses(steps_of(RunFolder(tmp_path / "cut"))) == pytest.approx(
        losses(steps_of(RunFolder(tmp_path / "whole"))), abs=1e-5
    )
    for name, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(cut)[name], weight, atol=1e-5, rtol=0)


@pytest.mark.long
def test_two_processes_train_the_model_that_one_trains(tmp_path: Path):
    config, script = (
        ROOT / "configs/accelerate/two_cpu_processes.yaml",
        ROOT / "tests/scratch_models/ragged_training.py",
    )
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
    two = tmp_path / "two"
    ended = subprocess.run(
        [*launch, "--main_process_port", "0", str(script), str(two)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    one = train_on_ragged_rows(tmp_path / "one")
    assert losses(steps_of(RunFolder(two))) == pytest.approx(losses(steps_of(RunFolder(tmp_path / "one"))), abs=1e-5)
    trained = load_newest_checkpoint(two / "checkpoints")[0].tensors["trained"]
    assert trained.keys() == weights_of(one).keys()
    for name, weight in weights_of(one).items():
        torch.testing.assert_close(trained[name], weight, atol=1e-5, rtol=0)


def test_a_micro_batch_with_nothing_to_learn_changes_nothing(tmp_path: Path):
    batch = global_batch(0)
    masked = {"input_ids": batch["input_ids"], "targets": torch.full_like(batch["targets"], -100)}
    with_it, without = make_loss_model(), make_loss_model()
    metrics = run_loop(tmp_path / "a", with_it, SETTINGS, batches=Fixed(masked, batch, masked))
    assert losses(metrics) == losses(run_loop(tmp_path / "b", without, SETTINGS, batches=Fixed(batch)))
    assert_same_bits(with_it, without)


def test_a_step_with_nothing_to_learn_has_a_loss_of_zero(tmp_path: Path):
    batch = global_batch(0)
    masked = {"input_ids": batch["input_ids"], "targets": torch.full_like(batch["targets"], -100)}
    metrics = run_loop(tmp_path, make_loss_model(), SETTINGS, batches=Fixed(masked))
    assert {(entry["loss_nats"], entry["gradient_norm"], entry["supervised_tokens"]) for entry in metrics} == {
        (0, 0, 0)
    }


class Spoilt(nn.Module):
    """A loss that is sound until the model has been asked some times, then broken in one of two ways."""

    def __init__(self, how: str, after: int) -> None:
        super().__init__()
        self.weight, self.how, self.left = nn.Parameter(torch.ones(3)), how, after

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left >= 0:
            return (self.weight**2).sum()
        if self.how == "loss":
            return self.weight.sum() * math.nan
        return (self.weight * 0).sqrt().sum()  # the value is 0, the gradient is not finite


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_the_update_in_one_line(tmp_path: Path, how: str):
    settings = LoopSettings(max_steps=9, learning_rate=0.1, evaluation_steps=0)
    # The second micro-batch of the third step is the sixth that the model is asked.
    spoilt, sound = Spoilt(how, after=5), Spoilt(how, after=100)
    two = Fixed(global_batch(0), global_batch(0))
    with pytest.raises(
        InputError, match=r"step 3, which read batch 2: .*expected finite numbers: stopped before the update"
    ) as refused:
        run_loop(tmp_path / "spoilt", spoilt, settings, batches=two)
    assert "\n" not in str(refused.value)
    assert [entry["step"] for entry in steps_of(RunFolder(tmp_path / "spoilt"))] == [1, 2]
    run_loop(tmp_path / "sound", sound, dataclasses.replace(settings, max_steps=2), batches=two)
    assert_same_bits(spoilt, sound)


def test_a_long_gradient_is_scaled_down_to_the_clip(tmp_path: Path):
    loss_model = make_loss_model()
    before = weights_of(loss_model)
    settings = LoopSettings(max_steps=1, learning_rate=1.0, gradient_clip=0.01)
    (first,) = run_loop(
        tmp_path, loss_model, settings, optimizers=[torch.optim.SGD(loss_model.parameters(), lr=settings.learning_rate)]
    )
    moved = torch.cat([(weight - before[name]).flatten() for name, weight in weights_of(loss_model).items()])
    assert first["gradient_norm"] > 0.1
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def make_bigram() -> SummedLoss:
    torch.manual_seed(0)
    return SummedLoss(BigramLanguageModel(VOCABULARY))


@pytest.mark.parametrize(
    ("make", "muon_learning_rate"),
    [(make_bigram, None), (lambda: make_loss_model(dropout=0.3), None), (lambda: make_loss_model(dropout=0.3), 0.02)],
    ids=["bigram, AdamW", "GPT with dropout, AdamW", "GPT with dropout, Muon"],
)
@pytest.mark.parametrize(
    "checkpoint_steps", [pytest.param(1, marks=pytest.mark.long), 3, pytest.param(4, marks=pytest.mark.long)]
)
def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(
    tmp_path: Path, make: Callable[[], SummedLoss], muon_learning_rate: float | None, checkpoint_steps: int
):
    settings = dataclasses.replace(SETTINGS, checkpoint_steps=checkpoint_steps)

    def run(folder: str, model: SummedLoss, settings: LoopSettings, stop_at: int) -> list[dict[str, float]]:
        def evaluate(step: int) -> Mapping[str, float]:
            if step == stop_at:
                raise Interrupted
            torch.rand(step)  # an evaluation may draw, as one that samples does
            return {"held_out": float(step)}

        optimizers = make_optimizers(model, settings, muon_learning_rate=muon_learning_rate)
        return run_loop(tmp_path / folder, model, settings, optimizers=optimizers, evaluate=evaluate)

    unbroken, resumed = make(), make()
    expected = run("unbroken", unbroken, settings, stop_at=-1)
    with pytest.raises(Interrupted):
        run("broken", make(), settings, stop_at=8)
    found = run("broken", resumed, dataclasses.replace(settings, resume=True), stop_at=-1)
    timing = {"seconds", "tokens_per_second"}
    assert [{name: entry[name] for name in entry.keys() - timing} for entry in found] == [
        {name: entry[name] for name in entry.keys() - timing} for entry in expected
    ]
    assert [entry["step"] for entry in found] == list(range(1, 10))
    assert sorted(found, key=lambda entry: entry["seconds"]) == found
    assert_same_bits(resumed, unbroken)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_gives_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = dataclasses.replace(SETTINGS, checkpoint_steps=3)
    unbroken, resumed = make_loss_model(), make_loss_model()
    run_loop(tmp_path, unbroken, settings)
    newest = tmp_path / "checkpoints" / "step_00000009" / "trained.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    metrics = run_loop(tmp_path, resumed, dataclasses.replace(settings, resume=True))
    assert "passed over step_00000009: trained.safetensors is not the file that was saved" in capsys.readouterr().out
    assert [entry["step"] for entry in metrics] == list(range(1, 10))
    assert_same_bits(resumed, unbroken)


def test_to_resume_after_the_last_step_changes_nothing(tmp_path: Path):
    finished, resumed = make_loss_model(), make_loss_model()
    metrics = run_loop(tmp_path, finished, SETTINGS)
    assert run_loop(tmp_path, resumed, dataclasses.replace(SETTINGS, resume=True)) == metrics
    assert_same_bits(resumed, finished)


def test_every_optimizer_follows_the_schedule_from_its_own_peak(tmp_path: Path):
    loss_model = make_loss_model()
    optimizers = make_optimizers(loss_model, SETTINGS, muon_learning_rate=0.02)
    metrics = run_loop(tmp_path, loss_model, SETTINGS, optimizers=optimizers)
    factors = [learning_rate_factor(step, SETTINGS) for step in range(SETTINGS.max_steps)]
    assert [entry["learning_rate"] for entry in metrics] == pytest.approx([1e-2 * factor for factor in factors])
    muon, adamw = ({group["lr"] for group in optimizer.param_groups} for optimizer in optimizers)
    assert (muon, adamw) == ({0.02 * factors[-1]}, {1e-2 * factors[-1]})


def test_an_evaluation_comes_at_every_multiple_and_at_the_end(tmp_path: Path):
    metrics = run_loop(tmp_path, make_loss_model(), SETTINGS, evaluate=lambda step: {"at": step})
    assert [entry["at"] for entry in metrics if "at" in entry] == [4, 8, 9]


def test_the_model_is_evaluated_without_dropout_and_trained_with_it(tmp_path: Path):
    loss_model = make_loss_model(dropout=0.5)
    modes = []
    loss_model.register_forward_hook(lambda *_: modes.append(loss_model.training))
    accelerator = make_accelerator("fp32")

    def evaluate(step: int) -> Mapping[str, float]:
        nats, targets = held_out_loss(loss_model, [global_batch(0)], accelerator)
        return {"held_out_loss_nats": nats / targets}

    run_loop(tmp_path, loss_model, dataclasses.replace(SETTINGS, max_steps=2, evaluation_steps=1), evaluate=evaluate)
    assert modes[-6:] == [True, True, False] * 2  # two micro-batches of a step, then the held-out one


def test_held_out_loss_adds_up_over_all_micro_batches_without_dropout():
    loss_model = make_loss_model(dropout=0.5)
    batches = [global_batch(step) for step in range(3)]
    nats, targets = held_out_loss(loss_model, batches, make_accelerator("fp32"))
    assert loss_model.training
    loss_model.eval()
    with torch.no_grad():
        expected = sum(float(loss_model(**batch)) for batch in batches)
    assert (nats, targets) == (pytest.approx(expected, rel=1e-6), 3 * sum(LEARNED))


def test_tokens_are_counted_without_the_filling_behind_the_last_target():
    batch = {
        "input_ids": torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]]),
        "targets": torch.tensor([[-100, 3, -100, -100], [5, 6, 7, 8]]),
    }
    assert (count_tokens(batch), count_targets(batch)) == (2 + 4, 1 + 4)
