"""A run's model on the server of transformers, which nobody here wrote, replies as it does when it is opened here."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from transformers import GenerationConfig

from finetune.conversations.messages import Conversation, Message
from finetune.export.opened_sides import open_both
from finetune.replies.side import asked_as
from finetune.replies.side_settings import SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from tests.apps.served import free_port
from tests.finetune.tiny_models import questions
from tests.finetune.trained_runs import save_run, tuned
from tokenizer_ext.huggingface.hf_model import load_tokenizer

SECONDS_TO_START = 600
TOKENS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The base of a run, which has the project's chat template: a folder that any server takes."""
    return save_run(tuned(), tmp_path_factory.mktemp("runs") / "sft-1") / "base"


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory) -> Iterator[str]:
    """The server of transformers with that folder, on this machine alone and without the Hub."""
    port, output = free_port(), tmp_path_factory.mktemp("server") / "output"
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=dict(os.environ))
    end = time.monotonic() + SECONDS_TO_START
    try:
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < end, output.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1#{folder}"
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=2):
            return True
    except (URLError, OSError):
        return False


def _asks(text: str) -> Conversation:
    return Conversation((Message("user", text), Message("assistant", "")), text)


@pytest.mark.long
@pytest.mark.parametrize("prompt_format", ["chat", "question", "bare"])
def test_a_model_replies_the_same_here_and_on_the_server(folder: Path, address: str, prompt_format: str):
    asked = [_asks(question) for question, _ in questions(8)]
    local, served = open_both(str(folder), address, SideSettings(server_requests=2))
    here, there = (
        asked_as(side, prompt_format).answer(asked, TOKENS, Sampling(temperature=0)) for side in (local, served)
    )
    # A server ends at every stop of the generation config, and leaves other control tokens out of its text.
    tokenizer, stops = load_tokenizer(str(folder)), GenerationConfig.from_pretrained(folder).eos_token_id
    ends = "|".join(re.escape(tokenizer.convert_ids_to_tokens(stop)) for stop in stops)
    control = "|".join(map(re.escape, tokenizer.get_added_vocab()))
    said = [re.sub(control, "", re.split(ends, reply.text)[0]).strip() for reply in here]
    assert said == [reply.text for reply in there] and len(set(said)) > 4
    ended = [reply.stopped or re.search(ends, reply.text) is not None for reply in here]
    assert ended == [reply.stopped for reply in there]
