"""One service for all tests of this folder, with a base that can be tuned in seconds and one job already done."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.service.served import Service, started, wait_for
from tests.finetune.tiny_models import questions, save_tiny_base

SETTINGS = {
    "max_steps": 6,
    "lora_rank": 2,
    "evaluation_steps": 3,
    "checkpoint_steps": 3,
    "evaluation_conversations": 4,
    "evaluation_replies": 2,
    "reply_tokens": 4,
}

FOUR_A_STEP = {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 4}}}


def conversations(number: int = 40) -> str:
    """Lines of OpenAI's messages."""
    return "".join(
        json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}) + "\n"
        for asked, said in questions(number)
    )


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    save_tiny_base(folder / "tiny")
    with started(folder, "--models", '["tiny=tiny"]') as running:
        yield running


@pytest.fixture(scope="session")
def training_file(service) -> str:
    return upload(service, conversations())


@pytest.fixture(scope="session")
def tuned(service, training_file):
    """A job that has ended well."""
    client = service.client()
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=training_file,
        seed=3,
        suffix="first",
        method=FOUR_A_STEP,
        extra_body={"settings": SETTINGS},
    )
    done = wait_for(job.id, client)
    assert done.status == "succeeded", done
    return done


def upload(service: Service, content: str, name: str = "chats.jsonl") -> str:
    """The id of an uploaded file."""
    return service.client().files.create(file=(name, content.encode()), purpose="fine-tune").id


def run_folder(service: Service, job_id: str) -> Path:
    """What the job's run left."""
    return service.folder / "service" / "jobs" / job_id / "run"
