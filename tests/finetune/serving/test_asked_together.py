"""Models of a pool that are asked together: each says what it says alone, and all end when they should."""

import threading
import time
from itertools import pairwise

import pytest
from transformers import PreTrainedTokenizerFast

from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.conversations.messages import Conversation, Message
from finetune.replies.generation import generate_ids
from finetune.replies.prompts import PLAIN_PROMPTS
from finetune.serving import asked_together
from finetune.serving.asked_together import SideAsked, ask_together
from finetune.serving.model_pool import ModelPool
from finetune.serving.pooled_model import PooledModel
from finetune.serving.request_queue import BatchLimits
from scratch_models.decoding.sampling_settings import Sampling
from tests.apps.tiny_models import model_that_says, varied_model
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, to_hf_tokenizer

QUESTION = "what does abs return?"
TEXTS = ["Question: what does abs return? Answer: the absolute value."] * 2
GREEDY, SAMPLED = Sampling(temperature=0), Sampling(temperature=1, top_k=50, top_p=0.95, seed=3)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    bpe = train_bpe(TEXTS, 280, special_tokens=["<|endoftext|>"])
    return add_control_tokens(to_hf_tokenizer(bpe.ranks, bpe.special_tokens), CONTROL_TOKENS)


@pytest.fixture(scope="module")
def pool():
    found = ModelPool(limits=BatchLimits(rows=2, waiting=2))
    yield found
    found.close()


@pytest.fixture(scope="module")
def varied(pool, tokenizer, tmp_path_factory) -> PooledModel:
    """A model that says varied things, asked in its chat format."""
    folder = tmp_path_factory.mktemp("varied")
    varied_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return PooledModel(pool=pool, place=str(folder))


def _conversation(prompt: str = QUESTION) -> Conversation:
    return Conversation((Message("user", prompt), Message("assistant", "")), source="prompt")


def _asked(model, sampling=GREEDY, tokens=40, prompt=QUESTION) -> SideAsked:
    return SideAsked(model=model, conversation=_conversation(prompt), reply_tokens=tokens, sampling=sampling)


def _last(*asked: SideAsked, stop: threading.Event | None = None):
    *_, states = ask_together(asked, stop or threading.Event(), seconds_between=0)
    return states


def _says(pool, tokenizer, folder, text: str, prompt_format: str | None = None, positions: int | None = None, **asked):
    """The last state of a model that says `text`."""
    plain = PLAIN_PROMPTS[prompt_format] if prompt_format else None
    messages = [Message("user", QUESTION)]
    if plain is None:
        from finetune.chat.graft_format import GraftFormat

        prompt = GraftFormat(tokenizer).render_prompt(messages)
    else:
        prompt = tokenizer.encode(plain.text(messages), add_special_tokens=False)
    model = varied_model(len(tokenizer), positions=len(prompt) + positions) if positions is not None else None
    (model or model_that_says(tokenizer, text, prompt_tokens=len(prompt))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = PooledModel(pool=pool, place=str(folder), prompt=plain, **asked)
    return _last(_asked(model))[0]


def test_one_model_says_the_same_on_both_sides_with_one_seed_and_something_else_with_another(varied):
    replies = [state.reply for state in _last(_asked(varied, SAMPLED), _asked(varied, SAMPLED))]
    assert replies[0].text == replies[1].text != ""
    other = Sampling(temperature=1, top_k=50, top_p=0.95, seed=4)
    assert _last(_asked(varied, other))[0].reply.text != replies[0].text


def test_each_side_says_what_its_model_says_alone_with_what_it_cost(varied):
    model = varied.open().result()
    prompt_format = varied.prompt_format(model)
    plain = PooledModel(pool=varied.pool, place=varied.place, prompt=PLAIN_PROMPTS["bare"])
    for state, side in zip(_last(_asked(varied, SAMPLED), _asked(plain, SAMPLED)), (varied, plain), strict=True):
        prompt_format = side.prompt_format(model)
        alone = generate_ids(
            model.side.model,
            [prompt_format.prompt_ids(_conversation().messages[:-1])],
            max_new_tokens=40,
            stop_ids=prompt_format.stop_ids,
            sampling=SAMPLED,
        )[0]
        reply = state.reply
        assert reply.pieces == len(alone.ids) and prompt_format.text(alone.ids).startswith(reply.text)
        assert reply.nats and reply.own_tokens == reply.pieces and reply.own_bytes >= reply.pieces
        assert reply.first_seconds is not None and 0 < reply.first_seconds <= reply.seconds


def test_what_a_side_shows_only_grows_and_holds_no_piece_of_a_character(pool, tokenizer, tmp_path):
    prompt = tokenizer.encode(f"{QUESTION}\n\n", add_special_tokens=False)
    model_that_says(tokenizer, "数 and 🙂 ", prompt_tokens=len(prompt)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = PooledModel(pool=pool, place=str(tmp_path), prompt=PLAIN_PROMPTS["bare"])
    states = model.stream(_conversation(), 60, GREEDY, threading.Event())
    texts = []
    for state in states:
        texts.append(state.text)
        time.sleep(0.001)
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert "数 and 🙂 数 and 🙂" in texts[-1] and not any("\ufffd" in text for text in texts[:-1])


def test_a_set_stop_ends_all_sides_within_two_tokens_and_closing_does_too(varied):
    stop = threading.Event()
    states = ask_together([_asked(varied, tokens=900)] * 2, stop, seconds_between=0)
    before = next(found for found in states if all(state.reply.pieces > 3 for state in found))
    stop.set()
    *_, after = states
    assert [state.reply.ended for state in after] == ["stopped", "stopped"]
    assert all(late.reply.pieces - early.reply.pieces < 300 for early, late in zip(before, after, strict=True))
    states = ask_together([_asked(varied, tokens=900)] * 2, threading.Event(), seconds_between=0)
    next(found for found in states if found[0].reply.pieces)
    states.close()
    batch, end = varied.open().result().batch, time.monotonic() + 2
    while batch.rows:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_side_that_waits_says_for_what_and_one_that_finds_the_queue_full_says_so(varied):
    batch = varied.open().result().batch

    def begun(number: int) -> list:
        streams = [varied.stream(_conversation(), 1000, GREEDY, threading.Event()) for _ in range(number)]
        for stream in streams:
            next(stream)
        return streams

    speaking = begun(2)
    while batch.rows < 2:
        time.sleep(0.001)
    waiting = begun(2)
    said = [next(stream).waits_for.rpartition(",")[0] for stream in waiting]
    assert said == ["waiting for a place, 0 before it", "waiting for a place, 1 before it"]
    full = _last(_asked(varied))[0]
    assert "requests wait, and no more may: come again in" in full.reply.ended
    for stream in [*speaking, *waiting]:
        stream.close()


def test_states_come_no_more_often_than_asked_and_the_last_one_always(varied):
    states = ask_together([_asked(varied, tokens=300)] * 2, threading.Event(), seconds_between=0.05)
    timed = [(time.monotonic(), found) for found in states]
    between = [later - earlier for (earlier, _), (later, _) in pairwise(timed[:-1])]
    assert min(between, default=1) >= 0.049
    assert all(state.is_whole for state in timed[-1][1])


def test_an_assistant_ends_at_the_end_of_its_turn_and_a_base_at_the_end_of_its_text(pool, tokenizer, tmp_path):
    turn = _says(pool, tokenizer, tmp_path / "turn", "it is<|end|>").reply
    text = _says(pool, tokenizer, tmp_path / "text", " it is<|endoftext|>", "question").reply
    assert [(one.text, one.ended) for one in (turn, text)] == [("it is", "end of turn"), ("it is", "end of text")]


@pytest.mark.parametrize("goes_on", ["\n\nMore.", "\nQuestion: why?", "\nAnswer: or this"])
def test_a_base_that_goes_on_with_another_turn_is_cut_there(pool, tokenizer, tmp_path, goes_on):
    reply = _says(pool, tokenizer, tmp_path, f" it is. {goes_on}", "question").reply
    assert (reply.text, reply.ended) == ("it is.", "next turn began")


def test_a_reply_ends_where_the_model_has_no_position_left_and_a_prompt_that_does_not_fit_is_refused(
    pool, tokenizer, tmp_path
):
    short = _says(pool, tokenizer, tmp_path / "short", "", positions=3).reply
    assert (short.pieces, short.ended) == (3, "length: no position left in the model")
    refused = _says(pool, tokenizer, tmp_path / "none", "", positions=0).refused
    assert "tokens, the model has" in refused and "shorten the prompt" in refused


def test_an_assistant_that_learned_with_the_calculator_gets_its_results(pool, tokenizer, tmp_path):
    with_it = _says(pool, tokenizer, tmp_path / "with", "clips: <<48/2=9>>", calculator=True).reply
    without = _says(pool, tokenizer, tmp_path / "without", "clips: <<48/2=9>>").reply
    assert "<<48/2=24>>" in with_it.text and "<<48/2=9>>" not in with_it.text
    assert with_it.own_tokens < with_it.pieces  # the calculator's tokens cost the model nothing
    assert without.text.startswith("clips: <<48/2=9>>") and without.own_tokens == without.pieces


def test_a_model_that_is_not_there_is_one_line(pool, tmp_path):
    state = _last(_asked(PooledModel(pool=pool, place=str(tmp_path / "nothing"))))[0]
    assert "nothing" in state.refused and "\n" not in state.refused


def test_states_come_less_often_while_many_ask(varied, monkeypatch):
    monkeypatch.setattr(asked_together, "_UNDER_WAY", {object() for _ in range(4 * asked_together.AT_FULL_RATE)})
    states = ask_together([_asked(varied, tokens=300)], threading.Event(), seconds_between=0.02)
    times = [time.monotonic() for _ in states]
    assert min((later - earlier for earlier, later in pairwise(times[:-1])), default=1) >= 0.079
