"""Fine-tuning through the official client: files, jobs, events, checkpoints, and errors of OpenAI's shape."""

import json
import os
import subprocess
import sys

import openai
import pytest
from safetensors.torch import load_file

from tests.apps.service.conftest import SETTINGS, conversations, run_folder, upload
from tests.apps.service.served import wait_for
from tests.house.repository import ROOT


def test_a_file_is_read_when_it_arrives_listed_given_back_and_removed(service):
    client, content = service.client(), conversations(7)
    file = client.files.create(file=("chats.jsonl", content.encode()), purpose="fine-tune")
    assert (file.object, file.filename, file.bytes, file.status) == ("file", "chats.jsonl", len(content), "processed")
    assert file.model_extra["records"] == 7 and file.model_extra["kind"] == "conversations"
    assert client.files.retrieve(file.id) == file
    assert file.id in [one.id for one in client.files.list()]
    assert client.files.content(file.id).text == content
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="no such file"):
        client.files.retrieve(file.id)


def test_a_mistake_in_a_file_is_named_with_its_line_and_nothing_is_kept(service):
    client, kept = service.client(), len(list((service.folder / "service/files").iterdir()))
    bad = conversations(3) + '{"messages": [{"role": "usher", "content": "hi"}]}\n'
    with pytest.raises(openai.BadRequestError, match=r"chats\.jsonl:4: .*'usher'.*expected"):
        client.files.create(file=("chats.jsonl", bad.encode()), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="a zip archive"):
        client.files.create(file=("chats.jsonl", b"PK\x03\x04" + bytes(2000)), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match=r"its name has \.gz, expected"):
        client.files.create(file=("chats.jsonl.gz", b"\x1f\x8b"), purpose="fine-tune")
    assert len(list((service.folder / "service/files").iterdir())) == kept


@pytest.mark.long
def test_a_job_ends_in_the_weights_of_the_same_run_from_the_terminal(service, tuned, tmp_path):
    data = tmp_path / "chats.jsonl"
    data.write_text(conversations())
    same = {"base": service.folder / "tiny", "data": data, "seed": 3, "conversations_per_step": 4, **SETTINGS}
    flags = [part for name, value in same.items() for part in (f"--{name}", str(value))]
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    launch += ["--config_file", str(ROOT / "configs/accelerate/one_cpu.yaml"), str(ROOT / "finetune/sft.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*launch, *flags, "--output_dir", "run"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    here, there = (
        load_file(run / "final/adapter/adapter_model.safetensors")
        for run in (tmp_path / "run", run_folder(service, tuned.id))
    )
    assert here.keys() == there.keys() and all(bool((here[name] == there[name]).all()) for name in here)


def test_a_job_says_what_it_was_asked_and_what_came_of_it(tuned, training_file):
    assert (tuned.object, tuned.model, tuned.training_file, tuned.seed) == ("fine_tuning.job", "tiny", training_file, 3)
    assert tuned.fine_tuned_model == f"ft:tiny:{tuned.id}" and tuned.error is None and tuned.trained_tokens > 0
    assert tuned.method.type == "supervised" and tuned.hyperparameters.n_epochs == "auto"
    assert tuned.finished_at >= tuned.created_at


def test_events_come_as_a_list_and_as_a_stream(service, tuned):
    client = service.client()
    listed = list(client.fine_tuning.jobs.list_events(tuned.id, limit=3))
    assert [event.message for event in listed][-1] == "queued"
    steps = [event.data["step"] for event in listed if event.type == "metrics" and "loss_nats" in event.data]
    assert steps == [6, 5, 4, 3, 2, 1]
    stream = client.get(
        f"/fine_tuning/jobs/{tuned.id}/events?stream=true",
        cast_to=object,
        stream=True,
        stream_cls=openai.Stream[openai.types.fine_tuning.FineTuningJobEvent],
    )
    assert [event.id for event in stream] == [event.id for event in reversed(listed)]


def test_checkpoints_are_listed_with_their_figures(service, tuned):
    found = service.client().fine_tuning.jobs.checkpoints.list(tuned.id).data
    assert [one.step_number for one in found] == [6, 3]
    assert all(one.metrics.valid_loss > 0 and one.metrics.train_loss > 0 for one in found)
    asked = {"messages": [{"role": "user", "content": "What colour has the boat number 3?"}], "temperature": 0}
    models = [tuned.fine_tuned_model, *(one.fine_tuned_model_checkpoint for one in found)]
    replies = [service.client().chat.completions.create(model=name, logprobs=True, **asked) for name in models]
    whole, last, first = ([one.logprob for one in reply.choices[0].logprobs.content] for reply in replies)
    assert last == pytest.approx(whole, abs=1e-5) and first[0] != pytest.approx(whole[0], abs=1e-4)


def test_jobs_are_listed_page_by_page(service, tuned, training_file):
    client = service.client()
    waiting = [
        client.fine_tuning.jobs.create(
            model="tiny", training_file=training_file, extra_body={"settings": {**SETTINGS, "max_steps": 500}}
        ).id
        for _ in range(3)
    ]
    running = client.fine_tuning.jobs.retrieve(waiting[0])
    assert running.status in ("queued", "running") and (running.estimated_finish or 2**40) > running.created_at
    listed = [job.id for job in client.fine_tuning.jobs.list(limit=2)]
    assert listed == [*reversed(waiting), *[job for job in listed if job not in waiting]] and tuned.id in listed
    for job_id in waiting:
        client.fine_tuning.jobs.cancel(job_id)
    assert [wait_for(job_id, client).status for job_id in waiting] == ["cancelled"] * 3


@pytest.mark.long
def test_a_job_that_fails_says_why(service):
    client = service.client()
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=upload(service, conversations(3)), extra_body={"settings": SETTINGS}
    )
    failed = wait_for(job.id, client)
    assert failed.status == "failed" and failed.error.code == "run_failed"
    assert "\n" not in failed.error.message and "conversations" in failed.error.message


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "nothing"}, "model nothing: no such model"),
        ({"training_file": "file-../../etc/passwd"}, "no such file"),
        ({"settings": {"output_dir": "/tmp/x"}}, "settings.output_dir: is not taken over the network"),
        ({"settings": {"base": "/etc"}}, "settings.base: give it as model"),
        ({"settings": {"lora_rang": 3}}, "lora_rang: no such setting, did you mean lora_rank?"),
        ({"settings": {"lora_rank": "x"}}, "lora_rank is 'x', expected int"),
        ({"method": {"type": "reinforcement"}}, "method.type: found 'reinforcement'"),
        ({"method": {"type": "dpo"}}, "holds conversations, expected pairs"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "this server has no such thing"),
        ({"colour": "red"}, "colour: no such field"),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_its_place(service, training_file, asked, said):
    body = {"model": "tiny", "training_file": training_file, **asked}
    before = len(service.client().fine_tuning.jobs.list(limit=100).data)
    with pytest.raises(openai.BadRequestError) as refused:
        service.client().post("/fine_tuning/jobs", body=body, cast_to=object)
    error = refused.value.body
    assert (
        said in error["message"]
        and error["type"] == "invalid_request_error"
        and error.keys() == {*("message", "type", "param", "code")}
    )
    assert len(service.client().fine_tuning.jobs.list(limit=100).data) == before


@pytest.mark.long
def test_preference_pairs_in_openais_form_make_a_dpo_job(service, tuned):
    client = service.client()
    pairs = "".join(
        json.dumps(
            {
                "input": {"messages": [{"role": "user", "content": f"What colour has number {n}?"}]},
                "preferred_output": [{"role": "assistant", "content": "It is red."}],
                "non_preferred_output": [{"role": "assistant", "content": "It is blue."}],
            }
        )
        + "\n"
        for n in range(40)
    )
    small = {"max_steps": 2, "lora_rank": 2, "evaluation_replies": 1, "reply_tokens": 4}
    job = client.fine_tuning.jobs.create(
        model=tuned.fine_tuned_model,
        training_file=upload(service, pairs, "pairs.jsonl"),
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "batch_size": 4}}},
        extra_body={"settings": small},
    )
    done = wait_for(job.id, client)
    assert done.status == "succeeded", done.error
    record = json.loads((run_folder(service, job.id) / "run.json").read_text())
    assert record["settings"]["beta"] == 0.2
