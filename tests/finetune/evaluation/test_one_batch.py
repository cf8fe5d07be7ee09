"""A base and an adapter on exactly it share their weights and a batch, and each says what it says alone."""

import json
import shutil
import threading
from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from finetune.conversations.formats import Conversation, Message, read_conversations
from finetune.evaluation.one_batch import answer_all, describe_batch, stream_all
from finetune.export.opened_sides import open_both, open_local
from finetune.replies.local_side import LocalSide
from finetune.replies.prompts import PLAIN_PROMPTS
from finetune.replies.side import asked_as
from finetune.replies.side_settings import SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.real_tokenizers import smollm2_folder
from tokenizer_ext.huggingface.hf_model import load_tokenizer

GREEDY, DRAWN = Sampling(temperature=0), Sampling(temperature=1.2, top_k=40, top_p=0.95, seed=3)
TOKENS = 12


def _adapter(base, folder, std=0.3, **options):
    """What plain peft saves of an adapter with random numbers."""
    lora = LoraConfig(**{"r": 4, "target_modules": "all-linear", **options})
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or (parameter.requires_grad and name.endswith("bias")):
            torch.nn.init.normal_(parameter, std=std)
    adapted.save_pretrained(folder)
    return folder


def _opened(base, tuned):
    sides = open_both(base, tuned, SideSettings())
    assert isinstance(sides[0], LocalSide) and isinstance(sides[1], LocalSide)
    return sides[0], sides[1]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"), initializer_range=0.4)


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return _adapter(base, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def sides(base, adapter):
    """Base and adapter as they are opened together."""
    return _opened(str(base), str(adapter))


@pytest.fixture(scope="module")
def alone(base, adapter):
    """Each opened for itself."""
    return open_local(str(base)), open_local(str(adapter))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return read_conversations(str(write_questions(tmp_path_factory.mktemp("data") / "asked.jsonl", 40)))


def _ways(sides, formats=("question", "bare")):
    return {name: asked_as(side, way) for name, side, way in zip(("base", "tuned"), sides, formats, strict=True)}


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_each_says_in_the_batch_what_it_says_alone(sides, alone, asked, sampling):
    assert sides[0].model is sides[1].model and sides[0].of_base
    together = answer_all(_ways(sides), asked, TOKENS, sampling)
    for name, model in _ways(alone).items():
        assert together[name] == model.answer(asked, TOKENS, sampling)
    assert together["base"] != together["tuned"]


def test_what_known_replies_and_choices_cost_is_what_it_is_alone(sides, alone, asked):
    for together, apart in zip(_ways(sides).values(), _ways(alone).values(), strict=True):
        assert together.costs(asked) == apart.costs(asked)
    of_base, of_tuned = (side.in_plain_text(PLAIN_PROMPTS["bare"]) for side in sides)
    assert of_base.costs(asked) != of_tuned.costs(asked)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_both_stream_from_one_batch_and_one_that_is_closed_leaves_the_other_going(sides, alone, asked, sampling):
    expected = {
        name: list(model.stream(asked[0], TOKENS, sampling, threading.Event())) for name, model in _ways(alone).items()
    }
    streams = stream_all(list(_ways(sides).values()), asked[0], TOKENS, sampling, threading.Event())
    states = [[next(stream)] for stream in streams]
    for stream, seen in zip(streams, states, strict=True):
        seen += list(stream)
    for seen, alone_seen in zip(states, expected.values(), strict=True):
        assert [one.text for one in seen] == [one.text for one in alone_seen] and seen[-1].ended == alone_seen[-1].ended
        assert all(one.seconds <= after.seconds for one, after in pairwise(seen))
    first, second = stream_all(list(_ways(sides).values()), asked[0], TOKENS, sampling, threading.Event())
    next(first), next(second)
    first.close()
    assert list(second)[-1].text == expected["tuned"][-1].text


def test_a_set_stop_ends_both(sides, asked):
    stop = threading.Event()
    streams = stream_all(list(_ways(sides).values()), asked[0], TOKENS, GREEDY, stop)
    for stream in streams:
        next(stream)
    stop.set()
    assert [list(stream)[-1].ended for stream in streams] == ["stopped", "stopped"]


def test_a_prompt_that_only_the_base_has_room_for_is_refused_of_the_other_alone(sides, base):
    tokenizer = load_tokenizer(str(base))
    words = "What colour has the river? " * 40
    fits_bare = next(
        text
        for text in (words[:length] for length in range(len(words), 0, -1))
        if len(tokenizer.encode(text + "\n\n", add_special_tokens=False)) <= 94
    )
    asked = Conversation((Message("user", fits_bare), Message("assistant", "")), source="prompt")
    of_base, of_tuned = stream_all(
        list(_ways(sides, ("bare", "question")).values()), asked, TOKENS, GREEDY, threading.Event()
    )
    assert next(of_base).pieces == 1
    with pytest.raises(ValueError, match="shorten the prompt"):
        next(of_tuned)
    assert list(of_base)[-1].ended


def test_the_same_weights_under_another_name_are_the_same(base, adapter, tmp_path):
    shutil.copytree(base, tmp_path / "elsewhere")
    of_base, of_tuned = _opened(str(tmp_path / "elsewhere"), str(adapter))
    assert of_base.model is of_tuned.model
    size = sum(one.nbytes for one in of_base.model.parameters()) / 1e6
    assert describe_batch(of_base, of_tuned) == (
        f"both: in one batch, over the same {size:,.0f} MB of weights, read and held once"
    )


def _changed_weight(base, folder):
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.transformer.h[1].ln_1.bias[0] += 1e-3
    shutil.copytree(base, folder)
    model.save_pretrained(folder)
    return folder


def _changed_config(base, folder):
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_epsilon": 1e-3}))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [(_changed_weight, "ln_1.bias is another"), (_changed_config, "its config has layer_norm_epsilon 0.001, ")],
)
def test_another_base_under_the_same_names_is_read_for_itself(base, adapter, tmp_path, change, said):
    of_base, of_tuned = _opened(str(change(base, tmp_path / "other")), str(adapter))
    assert of_base.model is not of_tuned.model and not of_base.of_base
    assert said in describe_batch(of_base, of_tuned)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modules_to_save": ["lm_head"]}, "the adapter trains"),
        ({"bias": "all"}, "is another under the adapter"),
        ({"trainable_token_indices": [1, 2]}, "the adapter trains"),
        ({"use_dora": True}, "decodes through its own forward"),
        ({"init_lora_weights": "pissa"}, "is another under the adapter"),
    ],
)
def test_an_adapter_that_changes_more_than_it_adds_is_not_claimed_to_share(base, tmp_path, options, said):
    of_base, of_tuned = _opened(str(base), str(_adapter(base, tmp_path / "adapter", **options)))
    assert of_base.model is not of_tuned.model
    assert said in describe_batch(of_base, of_tuned)


@pytest.mark.long
def test_smollm2_and_an_adapter_on_it_say_in_one_batch_what_each_says_alone(tmp_path):
    folder = smollm2_folder()
    adapter = _adapter(folder, tmp_path / "adapter", std=0.02, r=8)
    questions = ["What is the capital of France?", "Write a line about the sea.", "2+2?"]
    asked = [Conversation((Message("user", one), Message("assistant", "")), source="prompt") for one in questions]
    sides, alone = _opened(str(folder), str(adapter)), (open_local(str(folder)), open_local(str(adapter)))
    assert sides[0].model is sides[1].model
    for sampling in (GREEDY, Sampling(temperature=0.8, seed=5)):
        together = answer_all(_ways(sides, ("chat", "chat")), asked, 16, sampling)
        for name, model in _ways(alone, ("chat", "chat")).items():
            assert together[name] == model.answer(asked, 16, sampling)
        assert together["base"] != together["tuned"]
        if sampling is GREEDY:
            assert "Paris" in together["base"][0].text
