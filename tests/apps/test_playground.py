"""The page as a process: its address, its errors, and requests that no page would send."""

import json
import re
import socket
import sys
from collections.abc import Sequence
from urllib.request import Request, urlopen

import pytest

from apps.guarding.hosts import check_address
from apps.playground import PlaygroundSettings, main
from configs import InputError, run_entry
from tests.apps.served import free_port
from tests.said_lines import without_progress

FORM = ("what is abs?", "raw", "chat", 0.8, 0, 1, 0, 5)


def _messages(address: str, values: Sequence[object]) -> list[dict]:
    """What the server sends back to the form's values, from a session of their own."""
    with urlopen(f"{address}config") as answer:
        events = json.load(answer)["dependencies"]
    index = next(event["id"] for event in events if len(event["inputs"]) == len(FORM))
    session = str(abs(hash(str(values))))
    body = json.dumps({"data": values, "fn_index": index, "session_hash": session}).encode()
    with urlopen(Request(f"{address}gradio_api/queue/join", body, {"Content-Type": "application/json"})):
        pass
    messages = []
    with urlopen(f"{address}gradio_api/queue/data?session_hash={session}", timeout=20) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                messages.append(json.loads(line.removeprefix(b"data:")))
                if messages[-1]["msg"] == "process_completed":
                    return messages
    return messages


def _text(status: str) -> str:
    return re.sub(r"</?span[^>]*>", "", status)


def test_a_request_gets_both_panes_as_plain_text_with_their_status(served):
    base, base_status, _, assistant_status = _messages(served.address, FORM)[-1]["output"]["data"]
    assert base
    assert base_status.startswith("5 tokens · ")
    assert base_status.endswith(" tokens/s · length: limit of 5 tokens")
    assert "tokens/s" in assistant_status


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        (0, "  ", "prompt: is empty"),
        (0, "a" * 30_000, "found 30,000 characters, expected at most 20,000"),
        (1, "<b>chat</b>", "&lt;b&gt;chat&lt;/b&gt;"),
        (1, "chat", "tiny-base: has no chat format"),
        (2, "<b>chat</b>", "tuned format: found"),
        (3, float("nan"), "temperature: found nan, expected a number from 0 to 2"),
        (3, 3, "temperature: found 3"),
        (4, 1.5, "top-k: found 1.5, expected a whole number"),
        (6, None, "seed: found None"),
        (7, 10**9, "maximum tokens: found 1000000000"),
    ],
)
def test_values_that_bypass_the_page_are_refused_with_words(served, field, value, error):
    messages = _messages(served.address, [value if i == field else good for i, good in enumerate(FORM)])
    assert error in messages[-1]["output"]["error"]
    assert not any(message["msg"] == "process_generating" for message in messages)  # the panes stay as they are
    assert "Traceback" not in served.output.read_text()


def test_a_prompt_too_long_for_the_models_is_refused_in_the_panes_with_both_numbers(served):
    messages = _messages(served.address, ["~" * 1300, *FORM[1:]])
    shown = messages[-1]["output"]["data"]
    assert [message["log"] for message in messages if message["msg"] == "log"] == [_text(shown[1])]
    assert shown[0] == shown[2] == ""
    assert "found 1,300 tokens, the model has 1,200 positions" in shown[1]
    assert "found 1,303 tokens, the model has 1,200 positions" in shown[3]


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
        PlaygroundSettings(port=port)


@pytest.mark.parametrize("name", ["https://demo.example", "demo.example:7860", "*", ""])
def test_what_is_no_name_of_a_host_is_refused(name):
    with pytest.raises(InputError, match=r"allowed_hosts: found .* without scheme and port"):
        PlaygroundSettings(allowed_hosts=["demo.example", name])


def test_without_a_run_the_playground_ends_with_status_2_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["playground.py", "--port", str(free_port())])
    with pytest.raises(SystemExit) as end:
        run_entry(main, PlaygroundSettings)
    printed = capsys.readouterr()
    assert (end.value.code, printed.out, without_progress(printed.err).count("\n")) == (2, "", 1)
    assert "no finished run" in printed.err
