"""Replies behind a beginning that is read once are those that transformers generates from the whole prompts."""

import pytest
import torch

from finetune.gisting.prompted_replies import reply_behind
from finetune.replies.generation import generate_ids
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.tiny_models import TINY_MODELS

BEGINNING = [5, 9, 3, 11, 7, 22, 8]
ASKED = [[*BEGINNING, *ids] for ids in ([1], [2, 30], [4, 40, 41, 42, 43], [6, 12, 13])]


@pytest.mark.parametrize("kind", TINY_MODELS)
def test_greedy_replies_are_those_of_transformers(kind):
    model = TINY_MODELS[kind]()
    stop = model.generate(torch.tensor([ASKED[1]]), max_new_tokens=4, do_sample=False)[0, -1].item()
    found = reply_behind(model, ASKED, max_new_tokens=12, stop_ids=(stop,), sampling=Sampling(temperature=0.0))
    for ids, reply in zip(ASKED, found, strict=True):
        whole = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=stop)
        assert reply == whole[0, len(ids) :].tolist()
    assert any(reply[-1] == stop and len(reply) < 12 for reply in found)


@pytest.mark.parametrize("asked", [ASKED, [[1, 2, 3], [4, 5]], ASKED[:1]])
def test_drawn_replies_are_those_of_the_usual_generation(asked):
    model, drawn = TINY_MODELS["llama"](), Sampling(temperature=1.0, seed=3)
    expected = generate_ids(model, asked, max_new_tokens=10, stop_ids=(), sampling=drawn)
    assert reply_behind(model, asked, max_new_tokens=10, stop_ids=(), sampling=drawn) == [[*r.ids] for r in expected]
