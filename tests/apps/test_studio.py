"""The page as a process: its address, its errors, and requests that no page would send."""

import json
import re
import socket
from collections.abc import Sequence
from urllib.request import Request, urlopen

import pytest

from apps.guarding.hosts import check_address
from apps.studio_settings import StudioSettings
from configs import InputError
from finetune.serving.dialogue import read_dialogue
from tests.apps.sent_by_hand import FORM


def _messages(address: str, values: Sequence[object]) -> list[dict]:
    """What the server sends back to the form's values, from a session of their own."""
    with urlopen(f"{address}config") as answer:
        events = json.load(answer)["dependencies"]
    index = next(event["id"] for event in events if event["api_name"] == "ask")
    session = str(abs(hash(str(values))))
    body = json.dumps({"data": values, "fn_index": index, "session_hash": session}).encode()
    with urlopen(Request(f"{address}gradio_api/queue/join", body, {"Content-Type": "application/json"})):
        pass
    messages = []
    with urlopen(f"{address}gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                messages.append(json.loads(line.removeprefix(b"data:")))
                if messages[-1]["msg"] == "process_completed":
                    return messages
    return messages


def test_a_request_gets_every_side_with_its_figures_and_what_exactly_it_is(served, folders):
    shown = _messages(served.address, FORM)[-1]["output"]["data"]
    assert re.search(r"5 tokens · first after .* tokens/s · perplexity .* · length: limit of 5 tokens", shown[1])
    assert re.fullmatch(r"sha256 [0-9a-f]{12} · no adapter · no chat format", shown[2])
    assert re.fullmatch(r"sha256 [0-9a-f]{12} · no adapter · Graft&#x27;s chat format", shown[5])
    kept = read_dialogue(shown[12])
    assert kept.sides == ("tiny-base", "sft-7") and kept.turns[0].prompt == FORM[0]


def _with(field: int, value: object) -> list[object]:
    return [value if i == field else good for i, good in enumerate(FORM)]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        (0, "  ", "prompt: is empty"),
        (0, "a" * 30_000, "found 30,000 characters, expected at most 20,000"),
        (1, "<b>{", "dialogue: is none"),
        (4, float("nan"), "temperature: found nan, expected a number from 0 to 2"),
        (4, None, "temperature: found None"),
        (5, 1.5, "top-k: found 1.5, expected a whole number"),
        (8, 10**9, "most tokens: found 1000000000"),
        (10, "<b>x</b>", "side A: found &#x27;&lt;b&gt;x&lt;/b&gt;&#x27;, expected one of"),
        (11, "<b>chat</b>", "&lt;b&gt;chat&lt;/b&gt;"),
    ],
)
def test_values_that_bypass_the_page_are_refused_with_words(served, field, value, error):
    messages = _messages(served.address, _with(field, value))
    assert error in messages[-1]["output"]["error"]
    assert not any(message["msg"] == "process_generating" for message in messages)  # the panes stay as they are
    assert "Traceback" not in served.output.read_text()


def test_a_side_that_cannot_be_asked_says_so_in_its_pane_and_the_other_replies(served):
    shown = _messages(served.address, _with(11, "chat"))[-1]["output"]["data"]
    assert "has no chat format, expected a chat template" in shown[1] and "tokens/s" in shown[4]
    shown = _messages(served.address, _with(0, "~" * 1300))[-1]["output"]["data"]
    assert "found 1,300 tokens, the model has 1,200 positions" in shown[1]
    assert "found 1,303 tokens, the model has 1,200 positions" in shown[4]


def test_the_api_answers_beside_the_page(served):
    models = json.load(urlopen(f"{served.address}v1/models"))
    assert {model["id"] for model in models["data"]} == {"tiny-base", "sft-7"}


def test_a_taken_port_is_refused_with_its_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"^127\.0\.0\.1:{port}: cannot be listened on .*pass another --port"):
            check_address("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "::1"])
def test_a_host_that_is_not_this_machine_is_refused(host):
    with pytest.raises(InputError, match="cannot be listened on"):
        check_address(host, 7860)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port):
    with pytest.raises(InputError, match=f"port: found {port}, expected"):
        StudioSettings(port=port)


@pytest.mark.parametrize("name", ["https://demo.example", "demo.example:7860", "*", ""])
def test_what_is_no_name_of_a_host_is_refused(name):
    with pytest.raises(InputError, match=r"allowed_hosts: found .* without scheme and port"):
        StudioSettings(allowed_hosts=["demo.example", name])
