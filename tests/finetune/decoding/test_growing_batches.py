"""Rows that come and go: the logits of each are those of its own model, read from the beginning, at every step."""

import random
from typing import Any

import pytest
import torch

from finetune.decoding.decoders import read_model
from finetune.decoding.growing_batches import BatchByOwnForward, BatchByParts
from scratch_models.decoding import joining_rows
from tests.finetune.decoding.test_decoders import FAMILIES, made, relative, with_adapter

WORDS = 61


def adapters_of(family: str) -> list[tuple[Any, Any]]:
    """The base without an adapter, then two models over equal bases, each with its adapter."""
    gpt2 = family == "GPT-2"
    found: list[tuple[Any, Any]] = [(made(family), None)]
    for seed, targets in enumerate([["c_attn", "c_proj"], ["c_fc"]] if gpt2 else [["q_proj", "v_proj"], ["down_proj"]]):
        base = made(family)
        torch.manual_seed(seed)
        adapted = with_adapter(base, targets, fan_in_fan_out=gpt2).get_base_model()
        found.append((adapted, read_model(adapted, lay_out=True).own))
    return found


@torch.inference_mode()
def largest_difference(batch: BatchByParts, models: list[tuple[Any, Any]]) -> float:
    """Of the logits of rows that come and go at random from those of their own models."""
    draw, rows, largest = random.Random(1), list[tuple[Any, list[int]]](), 0.0

    def compare(logits: torch.Tensor, those: list[tuple[Any, list[int]]]) -> float:
        expected = torch.stack([model(torch.tensor([ids])).logits[0, -1] for model, ids in those])
        return max(largest, relative(logits, expected))

    for step in range(24):
        if step % 3 == 0:
            joining = [draw.choice(models) for _ in range(draw.randint(1, 3))]
            new = [(model, [draw.randrange(WORDS) for _ in range(draw.randint(1, 12))]) for model, _ in joining]
            reading = batch.begin([ids for _, ids in new], [adapter for _, adapter in joining])
            while (logits := reading.go_on(5)) is None:
                pass
            largest = compare(logits, new)
            batch.join(reading, range(len(new)))
            rows += new
        for _ in range(draw.randint(0, min(2, len(rows) - 1))):
            place = draw.randrange(len(rows))
            batch.leave(place)
            rows[place] = rows[-1]
            rows.pop()
        for _, ids in rows:
            ids.append(draw.randrange(WORDS))
        largest = compare(batch.step([ids[-1] for _, ids in rows]), rows)
    return largest


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=[] if one in ("GPT-2", "Llama 3") else pytest.mark.long) for one in FAMILIES]
)
def test_each_row_has_the_logits_of_its_own_model_whoever_comes_and_goes(family, monkeypatch):
    monkeypatch.setattr(joining_rows, "FIRST_ROWS", 2)  # room grows and is given back on the way
    monkeypatch.setattr(joining_rows, "FIRST_ROOM", 4)
    models = adapters_of(family)
    assert largest_difference(BatchByParts(read_model(models[0][0], lay_out=True)), models) < 1e-5


def test_room_is_given_back_when_rows_have_left():
    model = made("Llama")
    with torch.inference_mode():
        batch = BatchByParts(read_model(model, lay_out=True))
        reading = batch.begin([[1] * 60], [None])
        reading.go_on(64)
        batch.join(reading, [0] * 40)
        full = batch.rows.cache.numel()
        for _ in range(39):
            batch.leave(0)
    assert batch.rows.cache.numel() < full / 2


def test_a_models_own_forward_takes_rows_when_all_have_left():
    model = made("Llama")
    batch, prompts = BatchByOwnForward(model), [[1, 2, 3, 4], [5, 6]]
    with torch.inference_mode():
        for _ in range(2):
            reading = batch.begin(prompts, [None, None])
            logits = reading.go_on(1)
            assert logits is not None and batch.takes_rows
            batch.join(reading, [0, 1, 1])
            assert not batch.takes_rows
            batch.leave(0)  # the last takes its place
            expected = model(torch.tensor([[5, 6, 7]])).logits[:, -1].expand(2, -1)
            assert relative(batch.step([7, 7]), expected) < 1e-5
            batch.leave(1)
            batch.leave(0)
