"""The weight of a message reaches the loss: from the template of a real tokenizer to the gradient of a model.

The authority is a sum written by hand: plain transformers logits of each conversation alone in double precision, each
token that is learned times the weight of its message, through the sum of these weights.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.chat.batches import ConversationBatches
from finetune.conversations.messages import Conversation, Message
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.devices import make_accelerator
from tests.finetune.chat.fuzzed_chats import chat_of
from tests.finetune.gradients_in_processes import step_of
from tests.finetune.tiny_models import tiny_llama
from tests.real_tokenizers import smollm2_folder
from tokenizer_ext.huggingface.hf_model import load_model

WEIGHTS = (0.5, 0.0, 1.0, 0.25)


def _talk(weights=WEIGHTS, topic="sum"):
    turns = [
        (Message("user", f"The {topic} {number}?"), Message("assistant", f"It is {number}, 語.", weight=weight))
        for number, weight in enumerate(weights)
    ]
    return Conversation((Message("system", "Be brief."), *(one for turn in turns for one in turn)), "p")


TALKS = [_talk(), _talk((1.0, 1.0), "product"), _talk((0.5,), "quotient of the two"), _talk((0.0, 0.125, 1.0), "root")]


def _by_message(chat, talk):
    """Weights of the ids, found by learning one message at a time."""
    replies = [place for place, message in enumerate(talk.messages) if message.role == "assistant"]
    weights = np.zeros(len(chat.render(talk).input_ids))
    for place in replies:
        alone = (replace(one, weight=float(number == place)) for number, one in enumerate(talk.messages))
        found = chat.render(replace(talk, messages=tuple(alone)))
        weights += talk.messages[place].weight * np.array(found.supervised)
    return weights


@pytest.mark.parametrize(
    "family", ["graft", *(pytest.param(family, marks=pytest.mark.long) for family in ("smollm2", "llama3_1"))]
)
def test_each_id_has_the_weight_of_its_message_end_of_turn_included(family):
    chat = chat_of(family)
    for talk, row in zip(TALKS, chat.render_set(TALKS), strict=True):
        expected = _by_message(chat, talk)
        assert row.supervised == (expected > 0).tolist()
        assert (row.supervised if row.weights is None else row.weights) == expected.tolist()
        ends = [weight for id_, weight in zip(row.input_ids, expected, strict=True) if id_ == chat.end_id and weight]
        assert ends == [one.weight for one in talk.messages if one.role == "assistant" and one.learned]
    assert chat.render_set(TALKS[1:2]).weights is None, "where all counts 1 nothing is kept"


def test_where_a_template_gives_a_row_to_each_reply_the_row_has_its_weight():
    thinking = [replace(one, reasoning="Hm.") if one.role == "assistant" else one for one in _talk().messages]
    rows = chat_of("qwen3").render_set([replace(_talk(), messages=tuple(thinking))])
    assert len(rows) == 3
    for row, weight in zip(rows, (0.5, 1.0, 0.25), strict=True):
        assert set(row.weights or map(float, row.supervised)) == {0.0, weight}


def test_what_a_calculator_gives_counts_nothing_and_what_is_said_around_it_its_weight():
    chat = type(chat_of("graft"))(chat_of("graft").tokenizer, calculator=True)
    row = chat.render(Conversation((Message("user", "?"), Message("assistant", "<<1+1=2>>2", weight=0.5)), "p"))
    given = [id_ for id_, weight in zip(row.input_ids[4:], row.weights[4:], strict=True) if not weight]
    assert chat.tokenizer.decode(given) == "2>>" and set(row.weights) == {0.0, 0.5}


def _assert_is_the_sum_by_hand(model, chat, layout):
    """Loss and gradient of the talks in one step."""
    nats, weight = torch.zeros((), dtype=torch.float64), 0.0
    for talk in TALKS:
        ids = torch.tensor([chat.render(talk).input_ids])
        log_probabilities = model(input_ids=ids, use_cache=False).logits[0].log_softmax(dim=-1)  # (T, V)
        for place, own in enumerate(_by_message(chat, talk)):
            if own:
                nats = nats - own * log_probabilities[place - 1, ids[0, place]]
                weight += own
    trained = [one for one in model.parameters() if one.requires_grad]
    expected = torch.autograd.grad(nats / weight, trained)
    read = ConversationBatches(chat.render_set(TALKS), len(TALKS), 128, seed=0, **layout)
    found, metrics = step_of(SupervisedLoss(model), read, make_accelerator("fp32"))
    assert metrics["loss_nats"] == pytest.approx(float(nats.detach()) / weight, rel=1e-6)
    apart = sum(float((one - other).square().sum()) for one, other in zip(found.values(), expected, strict=True))
    assert apart <= 1e-12 * sum(float(one.square().sum()) for one in expected)


@pytest.mark.parametrize(
    "layout",
    [
        {"packed": True},
        *(
            pytest.param(one, marks=pytest.mark.long)
            for one in ({}, {"accumulation_steps": 4}, {"accumulation_steps": 1})
        ),
    ],
)
def test_loss_and_gradient_under_the_template_of_a_real_chat_model_are_the_sum_by_hand(layout):
    chat = chat_of("smollm2")
    model = tiny_llama(len(chat.tokenizer)).double()
    _assert_is_the_sum_by_hand(model, chat, layout)


@pytest.mark.long
def test_loss_and_gradient_of_a_real_chat_model_are_the_sum_by_hand():
    model = load_model(str(smollm2_folder())).double().eval().requires_grad_(False)
    for block in (model.model.layers[0], model.model.layers[-1], model.model.norm):
        block.requires_grad_(True)
    _assert_is_the_sum_by_hand(model, chat_of("smollm2"), {"packed": True})
