"""The calculator while a model speaks: what is asked is completed, nothing else, the same in every batch and stream."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.chat.annotations import count_annotations
from finetune.chat.calculator import split_results
from finetune.replies.calculator_decoding import ReplyCalculator
from finetune.replies.generation import generate_ids, stream_reply
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.scripted_models import scripted_model
from tests.finetune.tiny_models import tiny_gpt2
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, next_token_id, to_hf_tokenizer

GREEDY = Sampling(temperature=0)
DIFFICULT = ["<<", "48", "=2", "24", ">>", "=24", "=24>>", " <", "2=", " =", "é"]
RANKS = {bytes([byte]): byte for byte in range(256)} | {text.encode(): 256 + n for n, text in enumerate(DIFFICULT)}


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes, and the tokens that make an annotation difficult: across its borders, and beyond its end."""
    return add_control_tokens(to_hf_tokenizer(RANKS, {"<|endoftext|>": len(RANKS)}), ["<|end|>"])


def _heard(tokenizer, *chosen_texts):
    """What a reply becomes whose model chooses tokens of just these texts."""
    listener = ReplyCalculator(tokenizer).listen()
    ids = []
    for text in chosen_texts:
        ids.append(listener.next_id(RANKS[text.encode()]))
        while listener._given:
            ids.append(listener.next_id(0))  # the model's choice has no say until the result is out
    return tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (["<<", "48", "/", "2", "="], "<<48/2=24>>"),
        (["<", "<", "48", "/", "2="], "<<48/2=24>>"),
        ([" <", "<", "4", "8", "/", "2", "="], " <<48/2=24>>"),
        (["<<", "1", "/", "0", "="], "<<1/0=error>>"),
        (["<<", "1", "+", "="], "<<1+=error>>"),
        (["<<", "<", "1", "+", "1", "="], "<<<1+1=2>>"),
        (["1", "+", "1", "="], "1+1="),
        (["<", "1", "+", "1", "="], "<1+1="),
        (["<<", "="], "<<="),
        (["<<", "x", "="], "<<x="),
        (["<<", "1", "<", "<", "2", "="], "<<1<<2=2>>"),
        (["<<", "1", ">>", "1", "="], "<<1>>1="),
        (["<<", "1", "\n", "1", "="], "<<1\n1="),
        (["<<", "é", "1", "="], "<<é1="),
        (["<<", "1", "=", "<<", "2", "="], "<<1=1>><<2=2>>"),
    ],
)
def test_arithmetic_that_is_asked_is_completed_and_nothing_else(tokenizer, chosen, text):
    assert _heard(tokenizer, *chosen) == text


@pytest.mark.parametrize("token", ["=2", "=24>>"])
def test_a_token_that_goes_on_behind_the_equals_sign_gives_way_to_the_result(tokenizer, token):
    assert _heard(tokenizer, "<<", "48", "/", "4", token) == "<<48/4=12>>"


OFTEN = [*"<<<>==0123456789+-*/(). ,x", "<<", " <", ">>", "48", "=2", "=24", "=24>>", "2=", " =", "é"]


@given(st.lists(st.sampled_from(OFTEN), max_size=40))
def test_whatever_a_model_chooses_no_result_is_made_up(tokenizer, chosen):
    counts = count_annotations([_heard(tokenizer, *chosen)])
    assert counts.wrong == 0


@given(st.lists(st.sampled_from([*"<=0123456789+-*/(). ,x", "<<", "2=", "é"]), max_size=40))
def test_what_a_model_chooses_is_kept_around_the_results(tokenizer, chosen):
    text = _heard(tokenizer, *chosen)
    assert "".join(piece for piece, own in split_results(text) if own) == "".join(chosen)


def test_code_inside_an_annotation_is_left_alone_and_never_run(tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "<<__import__('os').system('touch owned')="
    assert _heard(tokenizer, *("<<", *code[2:])) == code
    assert not list(tmp_path.iterdir())


def test_a_huge_power_costs_nothing(tokenizer):
    assert _heard(tokenizer, *("<<", *"9**9**9**9=")) == "<<9**9**9**9=error>>"


def _script(tokenizer, text):
    """What a model would choose at each place so that the calculator's part is its own nonsense."""
    ids: list[int] = []
    for piece, learned in split_results(text):
        piece_ids = tokenizer.encode(piece, add_special_tokens=False)
        ids += piece_ids if learned else [0] * len(piece_ids)
    return [*ids, tokenizer.convert_tokens_to_ids("<|end|>")]


TEXT = "48/2 = <<48/2=24>>24 é. <<24+48=72>>72"


def test_a_reply_with_the_calculator_has_the_ids_of_its_pieces_rendered_apart(tokenizer):
    script, prompt, end = _script(tokenizer, TEXT), [1, 2, 3], tokenizer.convert_tokens_to_ids("<|end|>")
    model = scripted_model(next_token_id(tokenizer), script, len(prompt))
    settings: dict[str, Any] = {"max_new_tokens": 60, "stop_ids": {end}, "sampling": GREEDY}
    (reply,) = generate_ids(model, [prompt], **settings, calculator=ReplyCalculator(tokenizer))
    rendered = [id_ for piece, _ in split_results(TEXT) for id_ in tokenizer.encode(piece, add_special_tokens=False)]
    assert (list(reply.ids), reply.stopped) == (rendered, True)
    assert tokenizer.decode(reply.ids) == TEXT
    (without,) = generate_ids(model, [prompt], **settings)
    assert list(without.ids) == script[:-1], "without a calculator the model is on its own"


def test_rows_of_one_batch_and_a_stream_give_the_same_replies(tokenizer):
    script, prompts, end = (
        _script(tokenizer, TEXT),
        [[1, 2, 3], [4, 5], [6]],
        tokenizer.convert_tokens_to_ids("<|end|>"),
    )
    model = scripted_model(next_token_id(tokenizer), [*script[:3], *script], 1)  # rows are out of step
    settings: dict[str, Any] = {
        "max_new_tokens": 60,
        "stop_ids": {end},
        "sampling": GREEDY,
        "calculator": ReplyCalculator(tokenizer),
    }
    together = generate_ids(model, prompts, **settings)
    assert len(set(together)) == 3
    for prompt, reply in zip(prompts, together, strict=True):
        assert generate_ids(model, [prompt], **settings) == [reply]
        assert tuple(stream_reply(model, prompt, **settings)) == reply.ids
        assert tokenizer.decode(reply.ids).endswith("<<24+48=72>>72")


def test_what_the_calculator_says_counts_as_tokens_of_the_reply(tokenizer):
    script, prompt = _script(tokenizer, TEXT), [1, 2, 3]
    model = scripted_model(next_token_id(tokenizer), script, len(prompt))
    settings: dict[str, Any] = {"stop_ids": (), "sampling": GREEDY, "calculator": ReplyCalculator(tokenizer)}
    whole = generate_ids(model, [prompt], max_new_tokens=40, **settings)[0].ids
    for tokens in range(1, 30):
        assert generate_ids(model, [prompt], max_new_tokens=tokens, **settings)[0].ids == whole[:tokens]


def test_a_reply_without_annotations_is_the_same_with_the_calculator_and_without(tokenizer):
    model = tiny_gpt2(next_token_id(tokenizer), initializer_range=0.4)
    settings: dict[str, Any] = {"max_new_tokens": 20, "stop_ids": (), "sampling": Sampling(temperature=1.3, seed=3)}
    prompts = [[1, 2], [3], [4, 5, 6]]
    assert generate_ids(model, prompts, **settings) == generate_ids(
        model, prompts, **settings, calculator=ReplyCalculator(tokenizer)
    )
