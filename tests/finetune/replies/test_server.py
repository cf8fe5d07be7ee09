"""A model on a server: what it is asked, what becomes of its replies, and one line for whatever goes wrong."""

import json
import re
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from configs import InputError
from finetune.conversations.messages import Conversation, Message, ToolCall
from finetune.export.opened_sides import open_both, read_key
from finetune.replies.asked_model import PartialReply
from finetune.replies.prompts import PLAIN_PROMPTS
from finetune.replies.served_model import ServedModel
from finetune.replies.server import connect
from finetune.replies.server_address import read_address
from finetune.replies.side_settings import SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from tests.apps.served import free_port
from tests.finetune.chat_server import Fault, Said, serve_chat

TALK = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "1+1?"),
        Message("assistant", "2"),
        Message("user", "2+2?"),
        Message("assistant", "4"),
    ),
    "chats.jsonl:7",
)
GREEDY = Sampling(temperature=0)


def _asked(server, prompt=None, requests=1, model="tiny", seconds=5.0):
    address = read_address(f"{server.address}#{model}" if model else server.address)
    return ServedModel(connect(address, None, seconds, requests), prompt)


def _asks(text):
    return Conversation((Message("user", text), Message("assistant", "")), f"chats.jsonl:{text}")


def test_a_chat_is_sent_as_it_stands_without_its_last_reply_greedy_with_seed_and_limit():
    with serve_chat(lambda _: Said([" It is ", "4. \n"])) as server:
        (reply,) = _asked(server).answer([TALK], 9, Sampling(temperature=0, seed=3))
    assert (reply.text, reply.stopped) == ("It is 4.", True)
    (request,) = server.requests
    assert request == {
        "path": "/v1/chat/completions",
        "authorization": "Bearer none",
        "model": "tiny",
        "max_tokens": 9,
        "temperature": 0.0,
        "seed": 3,
        "messages": [{"role": one.role, "content": one.content} for one in TALK.messages[:-1]],
    }


def test_tools_calls_and_what_was_thought_are_sent_too():
    call = ToolCall("add", '{"a": 1}', "c1")
    messages = (
        Message("user", "1+1?"),
        Message("assistant", "", reasoning="Add.", tool_calls=(call,)),
        Message("tool", "2", name="add", tool_call_id="c1"),
        Message("assistant", "2"),
    )
    tools = '[{"type": "function", "function": {"name": "add"}}]'
    with serve_chat(lambda _: Said(["2"])) as server:
        _asked(server).answer([Conversation(messages, "chats.jsonl:1", tools=tools)], 9, GREEDY)
    (request,) = server.requests
    assert request["tools"] == json.loads(tools)
    function = {"name": "add", "arguments": '{"a": 1}'}
    assert request["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Add.",
            "tool_calls": [{"type": "function", "id": "c1", "function": function}],
        },
        {"role": "tool", "content": "2", "name": "add", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize("name", list(PLAIN_PROMPTS))
def test_in_plain_text_a_server_is_sent_the_very_text_that_a_base_here_reads_and_its_reply_is_cut_alike(name):
    prompt = PLAIN_PROMPTS[name]
    with serve_chat(lambda _: Said([" 4", "\n\nQuestion: 3+3?"], finish_reason="length")) as server:
        (reply,) = _asked(server, prompt).answer([TALK], 9, Sampling(temperature=0.5, top_p=0.9))
    assert (reply.text, reply.stopped) == ("4", False)
    assert server.requests[0]["prompt"] == prompt.text(TALK.messages[:-1])
    assert (server.requests[0]["path"], server.requests[0]["top_p"]) == ("/v1/completions", 0.9)


@pytest.mark.parametrize(
    ("reason", "stopped"), [("stop", True), ("tool_calls", True), ("length", False), ("content_filter", False)]
)
def test_a_reply_ended_by_itself_where_the_server_says_so(reason, stopped):
    with serve_chat(lambda _: Said(["4"], finish_reason=reason)) as server:
        assert _asked(server).answer([TALK], 9, GREEDY)[0].stopped is stopped


def test_several_questions_are_in_flight_and_the_replies_keep_their_order():
    together = threading.Barrier(3)

    def answer(request: dict[str, Any]) -> Said:
        together.wait(timeout=15)  # passes only where three are asked at the same time
        return Said([f"to {request['messages'][-1]['content']}"])

    with serve_chat(answer) as server:
        replies = _asked(server, requests=3, seconds=60).answer([_asks(str(n)) for n in range(9)], 9, GREEDY)
    assert [reply.text for reply in replies] == [f"to {n}" for n in range(9)]


def test_what_fails_for_a_passing_reason_is_asked_again():
    answers: Iterator[Said | Fault] = iter(
        [Fault(503, {"error": {"message": "busy"}}, {"Retry-After": "0"}), Said(["4"])]
    )
    with serve_chat(lambda _: next(answers)) as server:
        assert _asked(server).answer([TALK], 9, GREEDY)[0].text == "4"
    assert len(server.requests) == 2


FAULTS = {
    "no such model": (Fault(404, {"error": {"message": "The model `tiny` does not exist."}}), "HTTP 404: The model"),
    "another framework's error": (Fault(400, {"detail": "no chat template"}), "HTTP 400: no chat template"),
    "busy for good": (Fault(503, {"error": {"message": "busy"}}, {"Retry-After": "0"}), "HTTP 503: busy"),
    "an error page": (Fault(502, "<html>Bad\nGateway</html>", {"Retry-After": "0"}), "HTTP 502: <html>Bad Gateway"),
    "a page": (Fault(200, "<html>Welcome</html>"), "not what an OpenAI-compatible server answers"),
    "no choices": (Fault(200, {"choices": []}), "not what an OpenAI-compatible server answers"),
    "another object": (Fault(200, {"hello": 1}), "not what an OpenAI-compatible server answers"),
    "a list": (Fault(200, [1]), "not what an OpenAI-compatible server answers"),
    "an escape": (Fault(400, {"error": {"message": "\x1b[2Jred"}}), "HTTP 400: \\x1b[2Jred"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("prompt", [None, PLAIN_PROMPTS["question"]], ids=["chat", "plain"])
def test_a_bad_answer_is_one_line_that_names_server_model_and_question(fault, prompt):
    answer, reason = FAULTS[fault]
    with serve_chat(lambda _: answer) as server, pytest.raises(InputError) as error:
        _asked(server, prompt).answer([TALK], 9, GREEDY)
    said = str(error.value)
    assert said.startswith(f"{server.address}: tiny: chats.jsonl:7: {reason}"), said
    assert "\n" not in said and len(said) < 300 and len(server.requests) <= 3


def test_after_a_question_that_fails_no_other_is_asked():
    def answer(request):
        time.sleep(0.05)
        return Fault(400, {"error": {"message": "no"}})

    with serve_chat(answer) as server, pytest.raises(InputError, match=r"chats\.jsonl:0"):
        _asked(server, requests=2).answer([_asks(str(n)) for n in range(40)], 9, GREEDY)
    assert len(server.requests) < 8


def test_a_server_that_sends_questions_elsewhere_is_refused():
    with serve_chat(lambda _: Said(["4"])) as elsewhere:
        moved = Fault(307, {}, {"Location": f"{elsewhere.address}/chat/completions"})
        with serve_chat(lambda _: moved) as server, pytest.raises(InputError, match="HTTP 307"):
            _asked(server).answer([TALK], 9, GREEDY)
    assert elsewhere.requests == []


def test_a_server_that_says_nothing_is_left_after_its_time():
    leave = threading.Event()
    with serve_chat(lambda _: (leave.wait(20) and Said([])) or Said([])) as server:
        asked = ServedModel(connect(read_address(f"{server.address}#tiny"), None, 0.2, 1))
        with pytest.raises(InputError, match=r"chats.jsonl:7: no answer in time"):
            asked.answer([TALK], 9, GREEDY)
        leave.set()


def test_an_address_where_nothing_listens_is_refused_at_once():
    address = f"http://127.0.0.1:{free_port()}/v1"
    began = time.monotonic()
    with pytest.raises(InputError, match=rf"^{address}: listing its models: no connection \(.*refused"):
        open_both("no/such/model", address, SideSettings(server_seconds=5))  # before anything else is looked for
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([], "lists no model, expected one"),
        (
            Fault(404, {"detail": "Not Found"}),
            "lists no model (HTTP 404: Not Found), expected one: name it as http://127.0.0.1",
        ),
        (Fault(200, "<html>"), "listing its models: not what an OpenAI-compatible server answers"),
    ],
)
def test_a_server_that_lists_no_model_is_refused_unless_one_is_named(models, said):
    with serve_chat(lambda _: Said(["4"]), models) as server, pytest.raises(InputError, match=re.escape(said)):
        _asked(server, model=None)


def test_a_named_model_is_asked_though_the_server_has_no_list():
    with serve_chat(lambda _: Said(["4"]), Fault(404, {})) as server:
        _asked(server, model="/folder/of/mine").answer([TALK], 9, GREEDY)
    assert server.requests[0]["model"] == "/folder/of/mine"


def test_of_several_models_the_first_is_asked_and_that_is_said(capsys):
    with serve_chat(lambda _: Said(["4"]), ["one", "two"]) as server:
        assert _asked(server, model=None).server.model == "one"
        assert "asking one, the first of 2 models" in capsys.readouterr().out
        assert _asked(server, model="two").server.model == "two"


def test_whether_a_server_has_the_model_is_known_before_any_weights_load():
    def answer(request):
        return Fault(404, {"error": {"message": "no such model"}})

    with serve_chat(answer) as server, pytest.raises(InputError, match="a first question: HTTP 404: no such model"):
        open_both("no/such/folder", f"{server.address}#other", SideSettings(server_seconds=5))


def test_the_key_comes_from_an_environment_variable_each_side_its_own(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "usual")
    monkeypatch.setenv("OTHER_KEY", "other")
    with serve_chat(lambda _: Said(["4"])) as server:
        open_both(server.address, server.address, SideSettings(tuned_key_variable="OTHER_KEY", server_seconds=5))
    assert [one["authorization"] for one in server.requests] == ["Bearer usual", "Bearer other"]


def test_a_variable_that_is_not_set_is_refused_and_what_may_be_the_key_itself_is_never_shown(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert read_key("OPENAI_API_KEY") is None
    with pytest.raises(InputError, match="is not set") as unset:
        read_key("abc123secret")
    with pytest.raises(InputError, match="base_key_variable: found no name of an environment variable") as wrong:
        SideSettings(base_key_variable="sk-secret")
    assert "secret" not in f"{unset.value}{wrong.value}"


@pytest.mark.parametrize(
    "name",
    ["http://", "http:///v1", "http://user:secret@host/v1", "http://host/v1?key=secret", "http://host:secret/v1"],
)
def test_an_address_that_is_none_or_holds_a_key_is_refused_and_not_shown(name):
    with pytest.raises(InputError, match="expected http://host:port/v1") as error:
        read_address(name)
    assert "secret" not in str(error.value)


def _stream(server, stop=None, prompt=None, sampling=GREEDY):
    return _asked(server, prompt).stream(_asks("1+1?"), 9, sampling, stop or threading.Event())


def _distinct(states):
    return list(dict.fromkeys(states))


def test_a_streamed_reply_grows_to_the_whole_one_with_the_tokens_that_the_server_counts():
    said = Said(["It", " is", " 2"], usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})
    with serve_chat(lambda _: said) as server:
        states = _distinct(_stream(server))
        (whole,) = _asked(server).answer([_asks("1+1?")], 9, GREEDY)
    grown = [state.text for state in states if state.pieces]
    assert grown == sorted(grown, key=len) and all("It is 2".startswith(text) for text in grown)
    last = states[-1]
    assert (last.text, last.pieces, last.piece, last.ended) == (whole.text, 4, "token", "end of turn")
    assert not any(state.ended for state in states[:-1])


@pytest.mark.parametrize(("reason", "ended"), [("length", "length: limit of 9 tokens"), (None, "the server closed")])
def test_a_streamed_reply_says_why_it_ended(reason, ended):
    with serve_chat(lambda _: Said(["It"], finish_reason=reason)) as server:
        last = list(_stream(server))[-1]
    assert last.ended.startswith(ended) and (last.pieces, last.piece) == (1, "piece")


def test_a_streamed_completion_ends_where_another_turn_begins():
    with serve_chat(lambda _: Said([" 2", "\n", "Question:", " 3+3?"])) as server:
        last = list(_stream(server, prompt=PLAIN_PROMPTS["question"]))[-1]
    assert (last.text, last.ended) == ("2", "next turn began")


def test_a_stream_never_waits_for_the_server_and_ends_at_once_where_it_is_stopped():
    leave, stop = threading.Event(), threading.Event()
    with serve_chat(lambda _: (leave.wait(20) and Said(["late"])) or Said([])) as server:
        states = _stream(server, stop)
        began = time.monotonic()
        assert list(islice(states, 100)) == [PartialReply(piece="piece")] * 100
        stop.set()
        assert [state.ended for state in states] == ["stopped"]
        assert time.monotonic() - began < 2
        leave.set()


@pytest.mark.parametrize("answer", [Fault(500, {"error": {"message": "out of memory"}}, {"Retry-After": "0"})])
def test_what_goes_wrong_in_a_stream_is_one_line(answer):
    with serve_chat(lambda _: answer) as server, pytest.raises(InputError, match="the prompt: HTTP 500: out of memory"):
        list(_stream(server))


def test_a_setting_that_no_server_has_is_refused():
    with serve_chat(lambda _: Said(["4"])) as server, pytest.raises(InputError, match="top-k: found 40"):
        list(_stream(server, sampling=Sampling(temperature=1, top_k=40)))
    assert server.requests == []
