"""The gradient of a global batch is one gradient, however the batch is cut, packed, shared out, or its head chunked.

What every way is held against: transformers' own logits of all 32 conversations at once, each a row, in float64. Where
messages have weights, the loss is summed by hand, token by token.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from finetune.chat.batches import ConversationBatches
from finetune.chat.packing import pad, to_row
from finetune.chat.rendered import RenderedConversation
from finetune.engine.engine import start_engine
from finetune.engine.packed_attention import use_packed_attention
from finetune.losses import chunked_cross_entropy
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.micro_batches import IGNORED_TARGET, count_targets
from tests.finetune.gradients_in_processes import (
    CONVERSATIONS,
    KINDS,
    NO_CLIPPING,
    batches,
    conversations,
    gradient_of,
    step_of,
    weighted_conversations,
)
from tests.house.repository import ROOT

Gradient = dict[str, Tensor]
WHOLE, OF_A_TENSOR = 1e-6, 1e-5
"""Largest difference, relative to the norm: of all tensors as one, and of each."""

CUTS: dict[str, dict[str, Any]] = {
    "32": {"accumulation_steps": 1},
    "8 x 4": {"accumulation_steps": 8},
    "1 x 32": {"accumulation_steps": 32},
    "by length": {},
    "packed in one row": {"packed": True, "accumulation_steps": 1},
    "packed in rows": {"packed": True},
}


def _usual(model):
    return None


def _packed_attention(model):
    assert use_packed_attention(model)


def _with_engine(model):
    engine = start_engine(model, NO_CLIPPING, make_accelerator("fp32"))
    assert engine.packs
    return engine


WAYS: dict[str, Callable] = {"as it is": _usual, "packed attention": _packed_attention, "engine": _with_engine}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, marks=[] if one in ("gpt2 with LoRA", "llama in full") else pytest.mark.long) for one in KINDS
    ],
)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def expected(kind) -> Gradient:
    model = KINDS[kind]().double()
    batch = pad([to_row(one) for one in conversations()])
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits  # (32, T, V)
    loss = F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), ignore_index=IGNORED_TARGET)
    loss.backward()
    return {name: one.grad for name, one in SupervisedLoss(model).named_parameters() if one.grad is not None}


@pytest.fixture(scope="module")
def by_hand(kind) -> tuple[float, Gradient]:
    """Loss and gradient with weights 0, 0.5 and 1: sum of weight times nats over sum of weights."""
    model = KINDS[kind]().double()
    nats, weight = torch.zeros((), dtype=torch.float64), 0.0
    for one in weighted_conversations():
        logits = model(input_ids=torch.tensor([one.input_ids]), use_cache=False).logits[0]  # (T, V)
        weights = map(float, one.supervised) if one.weights is None else one.weights
        for place, (id_, own) in enumerate(zip(one.input_ids, weights, strict=True)):
            if own and place:
                nats = nats - own * (logits[place - 1, id_] - logits[place - 1].exp().sum().log())
                weight += own
    (nats / weight).backward()
    gradient = {name: one.grad for name, one in SupervisedLoss(model).named_parameters() if one.grad is not None}
    return float(nats.detach()) / weight, gradient


def _differences(found: Gradient, expected: Gradient) -> tuple[float, float]:
    """Of all tensors as one, and the largest of one tensor."""
    assert found.keys() == expected.keys()
    apart = {name: (found[name].double() - expected[name]).norm() for name in expected}
    whole = torch.stack(list(apart.values())).norm() / torch.stack([one.norm() for one in expected.values()]).norm()
    return float(whole), max(float(apart[name] / expected[name].norm()) for name in expected)


def _assert_equal(found: Gradient, expected: Gradient) -> None:
    whole, of_a_tensor = _differences(found, expected)
    assert whole <= WHOLE and of_a_tensor <= OF_A_TENSOR


def _is_quick(cut: str, way: str) -> bool:
    """The engine takes every cut; what it replaces is tried on one in rows and one end to end."""
    return way == "engine" or (cut, way) in {("8 x 4", "as it is"), ("packed in rows", "packed attention")}


@pytest.mark.parametrize(
    ("cut", "way"),
    [
        pytest.param(cut, way, marks=[] if _is_quick(cut, way) else pytest.mark.long)
        for cut, way in itertools.product(CUTS, WAYS)
    ],
)
def test_a_global_batch_has_one_gradient_however_it_is_cut_and_computed(kind, expected, cut, way):
    model = KINDS[kind]()
    found = gradient_of(SupervisedLoss(model, WAYS[way](model)), batches(**CUTS[cut]), make_accelerator("fp32"))
    _assert_equal(found, expected)


WEIGHTED_CUTS = {
    "32": {"accumulation_steps": 1},
    "2 x 16": {"accumulation_steps": 2},
    "4 x 8": {"accumulation_steps": 4},
    "by length": {},
    "packed in one row": {"packed": True, "accumulation_steps": 1},
    "packed in 4 rows": {"packed": True, "accumulation_steps": 4},
}


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(cut, marks=[] if cut in ("by length", "packed in 4 rows") else pytest.mark.long)
        for cut in WEIGHTED_CUTS
    ],
)
def test_loss_and_gradient_with_weights_are_those_of_a_sum_by_hand(kind, by_hand, cut):
    read = batches(weighted=True, **WEIGHTED_CUTS[cut])
    assert any("weights" in one for one in read.micro_batches(0, 0, 1))
    for way in (_usual, _with_engine):
        model = KINDS[kind]()
        found, metrics = step_of(SupervisedLoss(model, way(model)), read, make_accelerator("fp32"))
        assert metrics["loss_nats"] == pytest.approx(by_hand[0], rel=1e-6)
        assert metrics["supervised_tokens"] == sum(sum(one.supervised[1:]) for one in weighted_conversations())
        _assert_equal(found, by_hand[1])


@pytest.mark.parametrize("cut", ["4 x 8", "packed in 4 rows"])
def test_in_double_precision_nothing_is_left_of_the_difference(kind, by_hand, cut):
    model = KINDS[kind]().double()
    read = batches(weighted=True, **WEIGHTED_CUTS[cut])
    found, metrics = step_of(SupervisedLoss(model), read, make_accelerator("fp32"))
    assert metrics["loss_nats"] == pytest.approx(by_hand[0], rel=1e-12)
    assert _differences(found, by_hand[1])[0] <= 1e-12


@pytest.mark.parametrize("weight", [0.25, 1e-3])
def test_a_batch_whose_weights_add_up_to_less_than_1_has_a_mean_all_the_same(weight):
    one = RenderedConversation([1, 2, 3, 4], [False, False, True, True])
    found = [
        step_of(
            SupervisedLoss(KINDS["gpt2 in full"]()),
            ConversationBatches([read], 1, 64, seed=0),
            make_accelerator("fp32"),
        )
        for read in (one, replace(one, weights=[0.0, 0.0, weight, weight]))
    ]
    assert found[1][1]["loss_nats"] == pytest.approx(found[0][1]["loss_nats"], rel=1e-6)
    assert found[1][1]["supervised_tokens"] == 2
    _assert_equal(found[1][0], {name: gradient.double() for name, gradient in found[0][0].items()})


def test_a_batch_that_weighs_nothing_at_all_moves_nothing():
    nothing = RenderedConversation([1, 2, 3], [False, True, True], [0.0, 0.0, 0.0])  # as 1e-60 is in single precision
    loss_model = SupervisedLoss(KINDS["gpt2 in full"]())
    gradient, metrics = step_of(loss_model, ConversationBatches([nothing], 1, 64, seed=0), make_accelerator("fp32"))
    assert metrics["loss_nats"] == 0 and not any(one.any() for one in gradient.values())


def test_a_loss_that_forgets_the_weights_is_seen(kind, by_hand):
    found = gradient_of(SupervisedLoss(KINDS[kind]()), batches(), make_accelerator("fp32"))
    assert _differences(found, by_hand[1])[0] > 0.05


@pytest.mark.parametrize(
    "cut",
    [
        {},
        pytest.param({"accumulation_steps": 1}, marks=pytest.mark.long),
        pytest.param({"accumulation_steps": 8}, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("read_of", [conversations, weighted_conversations])
def test_what_all_conversations_begin_with_may_be_computed_once(kind, cut, read_of):
    begun = [
        RenderedConversation(
            [*range(9), *one.input_ids],
            [*[False] * 9, *one.supervised],
            one.weights and [*[0.0] * 9, *one.weights],
        )
        for one in read_of()
        if len(one.input_ids) < 90  # the model's positions end there
    ]
    gradients = []
    for layout in ({}, {"packed": True, "shares_prefixes": True, **cut}):
        read = ConversationBatches(begun, len(begun), 256, seed=0, **layout)
        model = KINDS[kind]()
        if layout:
            engine = _with_engine(model)
            assert engine.shares_prefixes
            tokens = sum(one["input_ids"].numel() for one in read.micro_batches(0, 0, 1))
            assert tokens <= sum(len(one.input_ids) for one in begun) - 9 * (len(begun) - 8 - 1)
        else:
            model = model.double()
        gradients.append(gradient_of(SupervisedLoss(model), read, make_accelerator("fp32")))
    _assert_equal(gradients[1], gradients[0])


@pytest.mark.parametrize(("chunk_tokens", "block_rows"), [(1, 8192), (7, 13), (64, 5)])
def test_the_chunks_of_the_head_do_not_matter(kind, expected, chunk_tokens, block_rows, monkeypatch):
    monkeypatch.setattr(chunked_cross_entropy, "LEAST_CHUNK_TOKENS", chunk_tokens)
    monkeypatch.setattr(chunked_cross_entropy, "MOST_CHUNK_TOKENS", chunk_tokens)
    monkeypatch.setattr(chunked_cross_entropy, "BLOCK_ROWS", block_rows)
    _assert_equal(gradient_of(SupervisedLoss(KINDS[kind]()), batches(), make_accelerator("fp32")), expected)


def test_the_conversations_are_ragged_and_one_teaches_nothing():
    learned = [sum(one.supervised) for one in conversations()]
    assert len(learned) == CONVERSATIONS and learned.count(0) == 1 and max(learned) > 30 * min(filter(None, learned))
    alone = [count_targets(one) for one in batches(accumulation_steps=32).micro_batches(0, 0, 1)]
    assert len(alone) == CONVERSATIONS and alone.count(0) == 1, "a micro-batch of its own in which all is masked"


class _MeanPerMicroBatch(SupervisedLoss):
    """The mean of each of 8 micro-batches, averaged over them: what peers once did."""

    def forward(self, input_ids, targets, position_ids=None, weights=None):
        of_batch = sum(sum(one.supervised) for one in conversations())
        learned = max(int((targets != IGNORED_TARGET).sum()), 1)
        return super().forward(input_ids, targets, position_ids) * (of_batch / 8 / learned)


def test_a_mean_per_micro_batch_is_seen(kind, expected):
    loss_model = _MeanPerMicroBatch(KINDS[kind]())
    found = gradient_of(loss_model, batches(accumulation_steps=8), make_accelerator("fp32"))
    assert _differences(found, expected)[0] > 0.05


def test_conversations_that_see_each_other_are_seen(kind, expected):
    class Forgetful(SupervisedLoss):
        def forward(self, input_ids, targets, position_ids=None, weights=None):
            return super().forward(input_ids, targets)

    if kind.startswith("gpt2"):
        pytest.skip("GPT-2 has no more than 96 positions")
    found = gradient_of(Forgetful(KINDS[kind]()), batches(packed=True), make_accelerator("fp32"))
    assert _differences(found, expected)[0] > 0.05


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    """Where two processes left the gradient of their global batch."""
    folder = tmp_path_factory.mktemp("processes")
    file = ROOT / "configs/accelerate/two_cpu_processes.yaml"
    script = ROOT / "tests/finetune/gradients_in_processes.py"
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(file)]
    subprocess.run(
        [sys.executable, *launch, "--main_process_port", "0", str(script), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=170,
    )
    return folder


@pytest.mark.long
@pytest.mark.parametrize("packed", ["", " packed"], ids=["by length", "packed"])
def test_two_processes_have_loss_and_gradient_of_the_sum_by_hand(kind, by_hand, of_two_processes, packed):
    file = of_two_processes / f"{kind}{packed} weighted.safetensors"
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["processes"] == "2"
        assert float(opened.metadata()["loss_nats"]) == pytest.approx(by_hand[0], rel=1e-6)
    _assert_equal(load_file(file), by_hand[1])


@pytest.mark.long
@pytest.mark.parametrize("packed", ["", " packed"], ids=["by length", "packed"])
def test_two_processes_have_the_gradient_of_one(kind, expected, of_two_processes, packed):
    file = of_two_processes / f"{kind}{packed}.safetensors"
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["processes"] == "2"
    _assert_equal(load_file(file), expected)
