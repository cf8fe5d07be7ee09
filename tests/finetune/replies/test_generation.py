"""Replies: greedy equal to transformers' generate, a row independent of its batch, every way to end."""

import threading
from typing import Any

import peft
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from configs import InputError
from finetune.decoding.decoders import decodes_by_parts
from finetune.replies.generation import Asked, Reply, generate_ids, generate_together, stream_reply
from scratch_models.decoding.sampling_settings import Sampling

VOCABULARY = 61
POSITIONS = 48
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15], [3, 3, 3, 3, 3, 3]]
GREEDY = Sampling(temperature=0)
DRAWN = Sampling(temperature=1.2, top_k=20, top_p=0.95, seed=5)


def _gpt2():
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=32,
        n_layer=2,
        n_head=4,
        resid_pdrop=0.5,
        initializer_range=0.4,  # wide, so that greedy text is varied
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def _llama():
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.4,
    )
    return LlamaForCausalLM(config)


def _gpt2_with_adapter():
    lora = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    return peft.get_peft_model(_gpt2(), lora)


@pytest.fixture(params=[_gpt2, _llama, _gpt2_with_adapter])
def model(request):
    torch.manual_seed(0)
    return request.param().eval()


@pytest.fixture
def gpt2():
    torch.manual_seed(0)
    return _gpt2().eval()


def _left_padded(prompts):
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def _up_to_stop(ids, stop_ids):
    for index, token in enumerate(ids):
        if token in stop_ids:
            return Reply(tuple(ids[:index]), stopped=True)
    return Reply(tuple(ids), stopped=False)


def test_greedy_replies_equal_those_of_transformers_generate(model):
    ids, mask = _left_padded(PROMPTS)

    def ask_transformers(stop_ids):
        settings = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 0, "eos_token_id": sorted(stop_ids)}
        return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :].tolist()

    without_end = ask_transformers({VOCABULARY})  # an id that no model here can choose
    stop_ids = set(without_end[0]) - set(without_end[3])  # so one row stops and another does not
    expected = [_up_to_stop(row, stop_ids) for row in ask_transformers(stop_ids)]
    assert {reply.stopped for reply in expected} == {True, False}, "the case should hold both kinds of end"
    assert generate_ids(model, PROMPTS, max_new_tokens=20, stop_ids=stop_ids, sampling=GREEDY) == expected


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
@pytest.mark.parametrize("rows_per_batch", [1, 3])
def test_a_reply_does_not_depend_on_the_other_rows_of_its_batch(model, sampling, rows_per_batch):
    settings: dict[str, Any] = {"max_new_tokens": 12, "stop_ids": {7, 9}, "sampling": sampling}
    together = generate_ids(model, PROMPTS, **settings)
    assert len(set(together)) == len(PROMPTS)
    others = [[20 + row, 1, 2, 3][: 1 + row % 4] for row in range(len(PROMPTS))]
    for row, prompt in list(enumerate(PROMPTS))[::2]:
        changed = [*others[:row], prompt, *others[row + 1 :]]
        assert generate_ids(model, changed, **settings, rows_per_batch=rows_per_batch)[row] == together[row]


def test_what_stands_in_the_padding_has_no_effect(gpt2):
    settings: dict[str, Any] = {"max_new_tokens": 10, "stop_ids": (), "sampling": GREEDY}
    assert generate_ids(gpt2, PROMPTS, **settings, pad_id=0) == generate_ids(gpt2, PROMPTS, **settings, pad_id=33)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_streamed_ids_equal_generated_ids_and_the_generator_returns_the_reply(model, sampling):
    settings: dict[str, Any] = {"max_new_tokens": 20, "stop_ids": {7, 9, 11}, "sampling": sampling}
    for prompt in PROMPTS:
        stream, streamed = stream_reply(model, prompt, **settings), []
        try:
            while True:
                streamed.append(next(stream))
        except StopIteration as end:
            reply = end.value
        assert reply == generate_ids(model, [prompt], **settings)[0]
        assert streamed == list(reply.ids)


def test_the_seed_changes_what_is_drawn_and_the_same_seed_repeats_it(gpt2):
    def ids(seed):
        return generate_ids(gpt2, [[1]], max_new_tokens=20, stop_ids=(), sampling=Sampling(temperature=1.5, seed=seed))

    assert ids(1) == ids(1) != ids(2)


def test_a_set_event_ends_the_stream_before_the_next_id(gpt2):
    stop = threading.Event()
    stream = stream_reply(gpt2, [1, 2], max_new_tokens=20, stop_ids=(), sampling=GREEDY, stop=stop)
    taken = [next(stream), next(stream)]
    stop.set()
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert end.value.value == Reply(tuple(taken), stopped=False)


def test_a_reply_ends_where_the_model_has_no_position_left(model):
    prompts = [[1] * (POSITIONS - 1), [2] * (POSITIONS - 5), [3]]
    replies = generate_ids(model, prompts, max_new_tokens=12, stop_ids=(), sampling=GREEDY)
    assert [len(reply.ids) for reply in replies] == [1, 5, 12]
    assert not any(reply.stopped for reply in replies)


@pytest.mark.parametrize("length", [POSITIONS, POSITIONS + 22])
def test_a_prompt_that_fills_the_positions_is_refused_with_both_numbers(gpt2, length):
    for ask in (
        lambda: generate_ids(gpt2, [[1], [1] * length], max_new_tokens=1, stop_ids=(), sampling=GREEDY),
        lambda: next(stream_reply(gpt2, [1] * length, max_new_tokens=1, stop_ids=(), sampling=GREEDY)),
    ):
        with pytest.raises(InputError, match=f"{length} tokens.*{POSITIONS} positions"):
            ask()


def test_an_empty_prompt_is_refused(gpt2):
    with pytest.raises(InputError, match="0 tokens"):
        generate_ids(gpt2, [[1], []], max_new_tokens=1, stop_ids=(), sampling=GREEDY)


def test_no_prompts_give_no_replies_and_no_room_gives_an_empty_one(gpt2):
    assert generate_ids(gpt2, [], max_new_tokens=5, stop_ids=(), sampling=GREEDY) == []
    assert generate_ids(gpt2, [[1]], max_new_tokens=0, stop_ids=(), sampling=GREEDY) == [Reply((), stopped=False)]


def test_dropout_is_off_while_a_model_in_training_replies_and_on_again_after(gpt2):
    settings: dict[str, Any] = {"max_new_tokens": 12, "stop_ids": (), "sampling": GREEDY}
    expected = generate_ids(gpt2, PROMPTS, **settings)
    gpt2.train()
    assert generate_ids(gpt2, PROMPTS, **settings) == expected
    assert gpt2.training
    stream = stream_reply(gpt2, PROMPTS[0], **settings)
    next(stream)
    stream.close()
    assert gpt2.training


def test_no_graph_is_kept_while_a_model_replies_and_what_reads_the_stream_keeps_its_own_mode(gpt2):
    modes = []
    gpt2.register_forward_pre_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    for _ in stream_reply(gpt2, [1, 2], max_new_tokens=3, stop_ids=(), sampling=GREEDY):
        assert torch.is_grad_enabled()
    assert modes == [False] * 3
    ids = torch.tensor([[1, 2, 3]])
    gpt2(input_ids=ids, labels=ids).loss.backward()  # a training step can follow
    assert all(parameter.grad is not None for parameter in gpt2.parameters())


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
@pytest.mark.parametrize("by_parts", [True, False])
def test_a_base_and_its_adapter_asked_together_reply_as_each_alone(sampling, by_parts):
    torch.manual_seed(0)
    model = _gpt2_with_adapter().eval()
    if not by_parts:
        model.get_base_model().transformer.h[0].mlp.register_forward_hook(lambda *_: None)
    settings: dict[str, Any] = {"max_new_tokens": 12, "stop_ids": {7, 9}, "sampling": sampling}
    stop_ids = settings.pop("stop_ids")
    asked = [Asked(prompts=PROMPTS, stop_ids=stop_ids), Asked(prompts=PROMPTS[::-1], stop_ids=(9,), of_base=True)]
    replies, of_base = generate_together(model, asked, **settings, rows_per_batch=3)
    assert decodes_by_parts(model) is by_parts
    assert replies == generate_ids(model, PROMPTS, stop_ids=stop_ids, **settings)
    with model.disable_adapter():
        assert of_base == generate_ids(model, PROMPTS[::-1], stop_ids=(9,), **settings)
    assert of_base != replies[::-1], "the case should tell base and adapter apart"
