"""The time of all steps follows from that of a few, done by the loop itself; nothing of them is left on the disk."""

import tempfile
from pathlib import Path

import pytest
import torch

from finetune.supervised.estimate import (
    FEWEST_STEPS,
    MOST_STEPS,
    ChosenSteps,
    StepCost,
    choose_steps,
    estimate_training,
    rehearse,
    seconds_of_all,
    step_costs,
)
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings


class _Rows:
    """A step reads as many rows of 10 tokens as its number, in micro-batches of at most 4."""

    def describe(self, step):
        return f"batch {step}"

    def micro_batches(self, step, rank, world_size):
        sizes = [4] * (step // 4) + ([step % 4] if step % 4 else [])
        return [
            {"input_ids": torch.zeros(n, 10, dtype=torch.long), "targets": torch.ones(n, 10, dtype=torch.long)}
            for n in sizes or [1]
        ]


class _Weight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, input_ids, targets):
        return self.weight.sum() * targets.sum()


def test_a_cost_is_what_a_process_holds_of_a_step_and_its_largest_micro_batch():
    assert step_costs(_Rows(), 10, 1)[9] == StepCost(filled=90, largest=40)


def test_steps_are_looked_at_all_over_a_long_run():
    assert list(step_costs(_Rows(), 100, 1, looked_at=5)) == [0, 20, 40, 60, 80]


@pytest.mark.parametrize(("tokens", "number"), [(10, MOST_STEPS), (2_000, 10), (10**6, FEWEST_STEPS)])
def test_the_heaviest_step_comes_first_and_more_are_done_the_smaller_they_are(tokens, number):
    costs = {step: StepCost(tokens, largest=50 - abs(step - 30)) for step in range(100)}
    steps = choose_steps(costs)
    assert steps[0] == 30 and len(steps) == number
    assert steps[1:] == sorted(steps[1:]) and steps[-1] > 70


def test_chosen_steps_read_what_they_read_in_the_run():
    chosen = ChosenSteps(_Rows(), [7, 2])
    assert [len(one["input_ids"]) for one in chosen.micro_batches(0, 0, 1)] == [4, 3]
    assert [len(one["input_ids"]) for one in chosen.micro_batches(1, 0, 1)] == [2]


def test_the_first_step_counts_once_and_the_others_by_their_tokens():
    costs = {step: StepCost(filled=100 * (step + 1), largest=1) for step in range(4)}  # 250 on average
    done = {3: 7.0, 0: 0.1, 1: 0.2, 2: 0.3}  # 1 ms a token
    assert seconds_of_all(costs, done, max_steps=101) == pytest.approx(7.0 + 0.001 * 250 * 100)


def test_the_estimate_is_that_of_the_chosen_steps_done_in_their_order():
    model, read = _Weight(), []
    model.register_forward_hook(lambda _module, _inputs, loss: read.append(float(loss.detach())))
    optimizer = torch.optim.AdamW(model.parameters())
    settings = LoopSettings(max_steps=12, learning_rate=1e-3)
    estimated = estimate_training(model, _Rows(), optimizer, settings, make_accelerator("fp32"))
    steps = choose_steps(step_costs(_Rows(), 12, 1))
    micro_batches = [one for step in steps for one in _Rows().micro_batches(step, 0, 1)]
    assert [one["targets"].sum() for one in micro_batches] == pytest.approx(read, rel=0.05)  # the weight is about 1
    assert estimated > 0


def test_the_loop_does_the_steps_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    model = _Weight()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    settings = LoopSettings(
        max_steps=50, learning_rate=0.1, warmup_steps=40, evaluation_steps=1, checkpoint_steps=1, keep_best=True
    )
    seconds = rehearse(model, ChosenSteps(_Rows(), [9, 1, 5]), optimizer, settings, make_accelerator("fp32"))
    assert len(seconds) == 3 and all(second > 0 for second in seconds)
    assert optimizer.state[model.weight]["step"] == 3
    assert [path for path in Path(tmp_path).rglob("*")] == [tmp_path / "temporary"]
