"""Two replies side by side: each is the reply that the model gives alone, and both end when they should."""

import threading
import time
from dataclasses import replace
from itertools import islice, pairwise

import pytest

from apps.form import Asked
from apps.pair import VERBATIM
from apps.panes import answer_side_by_side, speak
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import Message
from finetune.replies.generation import generate_ids
from finetune.replies.local_model import LocalModel
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat, PlainPromptFormat
from scratch_models.decoding.sampling_settings import Sampling
from tests.apps.tiny_models import model_that_says, varied_model

ASKED = Asked(
    prompt="what does abs return?",
    base_format="question",
    tuned_format="chat",
    sampling=Sampling(temperature=1, seed=3),
    maximum_tokens=40,
)
GREEDY = replace(ASKED, sampling=Sampling(temperature=0))


@pytest.fixture
def model(chat_tokenizer):
    return varied_model(len(chat_tokenizer))


@pytest.fixture
def chat(chat_tokenizer):
    return ChatPromptFormat(GraftFormat(chat_tokenizer))


@pytest.fixture
def question(chat_tokenizer):
    return PlainPromptFormat(chat_tokenizer, PLAIN_PROMPTS["question"])


@pytest.fixture
def raw(chat_tokenizer):
    return PlainPromptFormat(chat_tokenizer, VERBATIM)


def _states(sides, asked, stop=None, seconds_between=0.0):
    return list(answer_side_by_side(sides, asked, stop or threading.Event(), seconds_between=seconds_between))


def _prompt_ids(prompt_format):
    return prompt_format.prompt_ids([Message("user", ASKED.prompt)])


def _said(prompt_format, text, asked=GREEDY):
    """The last pane of a model that says `text`."""
    tokenizer = prompt_format.chat.tokenizer if isinstance(prompt_format, ChatPromptFormat) else prompt_format.tokenizer
    model = model_that_says(tokenizer, text, prompt_tokens=len(_prompt_ids(prompt_format)))
    return list(speak(LocalModel(model, prompt_format), asked, threading.Event()))[-1]


@pytest.mark.parametrize("seed", [3, 4])
def test_one_model_asked_in_one_way_says_the_same_on_both_sides(model, chat, seed):
    asked = replace(ASKED, sampling=Sampling(temperature=1, top_k=50, top_p=0.95, seed=seed))
    left, right = _states([LocalModel(model, chat), LocalModel(model, chat)], asked)[-1]
    assert left.text == right.text != ""
    assert (left.reply.pieces, left.reply.ended) == (right.reply.pieces, right.reply.ended)


def test_another_seed_says_something_else(model, raw):
    first, second = (
        _states([LocalModel(model, raw)], replace(ASKED, sampling=Sampling(temperature=1, seed=seed)))[-1]
        for seed in (3, 4)
    )
    assert first[0].text != second[0].text


def test_each_pane_shows_the_reply_that_its_model_gives_alone(model, chat, raw):
    panes = _states([LocalModel(model, raw), LocalModel(model, chat)], ASKED)[-1]
    for pane, prompt_format in zip(panes, (raw, chat), strict=True):
        reply = generate_ids(
            model,
            [_prompt_ids(prompt_format)],
            max_new_tokens=40,
            stop_ids=prompt_format.stop_ids,
            sampling=ASKED.sampling,
        )[0]
        assert (pane.text, pane.reply.pieces) == (prompt_format.text(reply.ids), len(reply.ids))


def test_both_sides_advance_together(model, chat, raw):
    states = _states([LocalModel(model, raw), LocalModel(model, chat)], GREEDY)
    assert [(left.reply.pieces, right.reply.pieces) for left, right in states[:10]] == [(n, n) for n in range(1, 11)]


def test_what_a_pane_shows_only_grows_and_holds_no_piece_of_a_character(raw):
    tokenizer = raw.tokenizer
    model = model_that_says(tokenizer, "数 and 🙂\n\n", prompt_tokens=len(_prompt_ids(raw)))
    texts = [pane.text for pane in speak(LocalModel(model, raw), GREEDY, threading.Event())]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert "数 and 🙂\n\n数 and 🙂" in texts[-1]
    assert not any("\ufffd" in text for text in texts[:-1])


def test_a_set_stop_ends_both_within_a_token(model, chat, raw):
    stop, steps = threading.Event(), []
    model.register_forward_pre_hook(lambda *_: steps.append(1))
    states = answer_side_by_side([LocalModel(model, raw), LocalModel(model, chat)], GREEDY, stop, seconds_between=0)
    before = list(islice(states, 5))[-1]
    stop.set()
    after = list(states)[-1]
    assert [pane.reply.ended for pane in after] == ["stopped", "stopped"]
    assert all(late.reply.pieces <= early.reply.pieces + 1 for early, late in zip(before, after, strict=True))
    assert len(steps) <= 2 * 6


def test_a_reply_that_waits_while_stop_is_set_says_nothing(model, chat):
    stop = threading.Event()
    stop.set()
    assert [pane.status for pane in _states([LocalModel(model, chat)], ASKED, stop)[-1]] == ["0 tokens · stopped"]


def test_closing_the_states_ends_both_models(model, raw):
    steps = []
    model.register_forward_pre_hook(lambda *_: steps.append(1))
    states = answer_side_by_side([LocalModel(model, raw)] * 2, GREEDY, threading.Event(), seconds_between=0)
    next(states)
    model.train()  # what follows would switch it off again
    states.close()
    assert len(steps) == 2


def test_states_come_no_more_often_than_asked_and_the_last_one_always(model, raw):
    asked = replace(GREEDY, maximum_tokens=200)
    states = answer_side_by_side([LocalModel(model, raw)] * 2, asked, threading.Event(), seconds_between=0.05)
    timed = [(time.monotonic(), panes) for panes in states]
    between = [later - earlier for (earlier, _), (later, _) in pairwise(timed[:-1])]
    assert min(between) >= 0.049
    assert [pane.reply.pieces for pane in timed[-1][1]] == [200, 200]


def test_an_assistant_ends_at_the_end_of_its_turn(chat):
    pane = _said(chat, "it is<|end|>")
    assert (pane.text, pane.reply.ended) == ("it is", "end of turn")


def test_a_base_ends_at_the_end_of_its_text(question):
    pane = _said(question, " it is<|endoftext|>")
    assert (pane.text, pane.reply.ended) == ("it is", "end of text")


@pytest.mark.parametrize("goes_on", ["\n\nMore.", "\nQuestion: why?", "\nAnswer: or this"])
def test_a_base_that_goes_on_with_another_turn_is_cut_there(question, goes_on):
    pane = _said(question, f" it is. {goes_on}")
    assert (pane.text, pane.reply.ended) == ("it is.", "next turn began")


def test_a_raw_completion_goes_on_over_blank_lines_to_the_limit(raw):
    pane = _said(raw, " it is.\n\nQuestion: why?", GREEDY)
    assert "\n\nQuestion: why? it is." in pane.text
    assert pane.reply.ended == "length: limit of 40 tokens"


def test_a_reply_ends_where_the_model_has_no_position_left(chat_tokenizer, chat):
    model = varied_model(len(chat_tokenizer), positions=len(_prompt_ids(chat)) + 3)
    pane = _states([LocalModel(model, chat)], GREEDY)[-1][0]
    assert (pane.reply.pieces, pane.reply.ended) == (3, "length: no position left in the model")


def test_a_side_that_the_prompt_does_not_fit_says_both_numbers_and_the_other_goes_on(chat_tokenizer, chat, raw):
    positions = len(_prompt_ids(chat))
    small = varied_model(len(chat_tokenizer), positions=positions)
    left, right = _states([LocalModel(small, raw), LocalModel(small, chat)], GREEDY)[-1]
    assert left.reply.pieces == positions - len(_prompt_ids(raw))
    assert right.status == (
        f"prompt: found {positions} tokens, the model has {positions} positions for prompt and reply together; "
        "shorten the prompt"
    )


def test_an_assistant_that_learned_with_the_calculator_gets_its_results_in_the_page_too(chat_tokenizer):
    with_calculator = _said(ChatPromptFormat(GraftFormat(chat_tokenizer, calculator=True)), "clips: <<48/2=9>>")
    without = _said(ChatPromptFormat(GraftFormat(chat_tokenizer)), "clips: <<48/2=9>>")
    assert "<<48/2=24>>" in with_calculator.text and "<<48/2=9>>" not in with_calculator.text
    assert without.text.startswith("clips: <<48/2=9>>")
