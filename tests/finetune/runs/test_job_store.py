"""Jobs are added, looked at and asked for, by any thread and any process, and nothing is there twice or half."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import InputError
from configs.yaml_settings import read_settings
from finetune.runs import transitions
from finetune.runs.job_files import settings_text
from finetune.runs.job_store import JobStore

CHATS = {"data": "chats.jsonl"}


@pytest.fixture
def store(tmp_path):
    return JobStore(tmp_path / "service")


def _run(store, kind="sft"):
    """A job that runs, claimed."""
    job = store.add(kind, CHATS if kind != "merge" else {"tuned": "runs/sft-1"})
    assert transitions.take_next(store.database, ["cpu"]) == (job.id, 1, "cpu")
    assert transitions.claim(store.database, job.id, 1, 1, "then")
    return store.get(job.id)


def test_what_is_added_stands_there_in_order_and_knows_its_files(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    jobs = [store.add("sft", {**CHATS, "max_steps": number + 1}, name=f"number {number}") for number in range(5)]
    assert store.list(newest_first=False) == jobs and store.list() == jobs[::-1]
    assert store.list(after=jobs[3].id, limit=2) == [jobs[2], jobs[1]]
    assert store.list(states=["running"]) == [] and store.list(kind="dpo") == []
    job = jobs[2]
    assert (job.state, job.kind, job.settings, job.directory) == (
        "queued",
        "sft",
        {**CHATS, "max_steps": 3},
        str(tmp_path),
    )
    found = {setting.name: setting.value for setting in read_settings(str(job.settings_file))}
    assert found == {**job.settings, "output_dir": str(job.output_dir)}
    assert job.output_dir.parent == job.folder == store.folder / "jobs" / job.id


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("sftt", {}, "kind: found 'sftt', expected one of sft, dpo"),
        ("sft", {"data": "a", "epoch": 3}, "epoch: no such setting, did you mean epochs?"),
        ("sft", {"max_steps": "many"}, "max_steps is 'many', expected"),
        ("sft", {"lora_rank": 0}, "lora_rank"),
        ("sft", {"output_dir": "/etc"}, "output_dir: is set by the queue, leave it out"),
        ("sft", {"resume": True}, "resume: is set by the queue, leave it out"),
        ("inspect_data", {"data": "a", "output": "b"}, "output: is set by the queue, leave it out"),
        ("compare", {"tuned": "runs/sft-1"}, "pass either --prompt TEXT"),
        ("merge", {}, "tuned"),
        ("extend", {"base": "gpt2"}, "corpus: missing"),
        ("sft", {"data": "a\0b"}, "data: 'a\\x00b' holds the character NUL"),
    ],
)
def test_what_the_entry_would_refuse_is_refused_in_its_words_and_nothing_is_written(store, kind, settings, said):
    with pytest.raises(InputError) as error:
        store.add(kind, settings)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert store.list() == [] and not list(store.folder.glob("jobs/*"))


@pytest.mark.parametrize("name", ["a\nb", "x" * 65, "\x1b[31m"])
def test_a_name_is_one_short_line(store, name):
    with pytest.raises(InputError, match="name: found"):
        store.add("sft", CHATS, name=name)


@given(st.dictionaries(st.sampled_from(["data", "base", "held_out"]), st.text(max_size=40)))
def test_every_text_reads_back_from_the_settings_as_it_was(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("texts") / "settings.yaml"
    path.write_text("steps: 3\n" + settings_text(texts), encoding="utf-8", newline="")
    assert {one.name: one.value for one in read_settings(str(path))} == {"steps": 3, **texts}


def test_what_waits_is_paused_and_cancelled_at_once_and_what_has_ended_is_not(store):
    first, second = store.add("sft", CHATS), store.add("merge", {"tuned": "runs/sft-1"})
    assert store.pause(first.id).state == "paused" and store.pause(second.id).state == "paused"
    with pytest.raises(InputError, match=f"{first.id}: is paused, expected one that is running or queued"):
        store.pause(first.id)
    assert store.resume(first.id).state == "queued"
    with pytest.raises(InputError, match="is queued, expected a job that is paused or has failed"):
        store.resume(first.id)
    assert store.cancel(first.id).state == store.cancel(second.id).state == "cancelled"
    for ask in (store.pause, store.resume, store.cancel):
        with pytest.raises(InputError, match="is cancelled, expected"):
            ask(first.id)
    for ask in (store.get, store.pause, store.resume, store.cancel, store.requeue, store.events, store.log):
        with pytest.raises(InputError, match=r"'ftjob-\.\./\.\./etc': no such job"):
            ask("ftjob-../../etc")
    assert [event.message for event in store.events(first.id)] == ["queued", "paused", "queued again", "cancelled"]


def test_what_runs_is_asked_and_a_cancel_outdoes_a_pause(store):
    job = _run(store)
    assert (store.pause(job.id).state, store.pause(job.id).wanted) == ("running", "pause")
    assert store.cancel(job.id).wanted == "cancel" == store.cancel(job.id).wanted
    with pytest.raises(InputError, match="is running and asked to cancel, expected"):
        store.pause(job.id)


def test_what_saves_no_checkpoint_is_not_paused_while_it_runs(store):
    job = _run(store, "merge")
    with pytest.raises(InputError, match="merge runs and saves no checkpoints, so it cannot be paused: cancel it"):
        store.pause(job.id)


def test_a_job_is_requeued_with_one_setting_changed_and_the_old_one_stays(store):
    job = store.add("sft", {**CHATS, "max_steps": 3}, name="mine", owner="key-1")
    again = store.requeue(job.id, {"max_steps": 4})
    assert again.settings == {**CHATS, "max_steps": 4} and (again.name, again.owner) == ("mine", "key-1")
    assert again.id != job.id and store.get(job.id) == job and store.list(newest_first=False) == [job, again]
    with pytest.raises(InputError, match="max_step: no such setting, did you mean max_steps"):
        store.requeue(job.id, {"max_step": 4})


def test_only_the_current_attempt_changes_a_job_and_it_is_claimed_once(store):
    job = store.add("sft", CHATS)
    assert transitions.take_next(store.database, []) is None
    assert transitions.take_next(store.database, ["cpu"]) == (job.id, 1, "cpu")
    assert transitions.take_next(store.database, ["cpu"]) is None
    assert transitions.hand_on(store.database, job.id, 1) == 2
    assert not transitions.claim(store.database, job.id, 1, 11, "then")
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda pid: transitions.claim(store.database, job.id, 2, pid, "then"), range(8)))
    assert sum(claims) == 1 and store.get(job.id).pid == claims.index(True)
    assert not transitions.end(store.database, job.id, 1, "succeeded")
    assert transitions.end(store.database, job.id, 2, "succeeded") and store.get(job.id).state == "succeeded"
    assert not transitions.end(store.database, job.id, 2, "failed", "later")


def test_a_process_that_is_lost_is_queued_in_its_old_place_and_fails_with_words_the_third_time(store):
    job, _later = store.add("sft", CHATS), store.add("sft", CHATS)
    for state in ("queued", "queued", "failed"):
        assert transitions.take_next(store.database, ["cpu"]) == (job.id, store.get(job.id).attempt, "cpu")
        lost = transitions.end_lost(store.database, job.id, store.get(job.id).attempt, "its process is gone")
        assert lost == state
    assert store.get(job.id).error == "its process is gone, 3 times: see its log"
    assert store.resume(job.id).lost == 0


PROGRAM = """
import sys
from finetune.runs.job_store import JobStore
store = JobStore(sys.argv[1])
for number in range(5):
    store.add("sft", {"max_steps": number + 1}, name=sys.argv[2])
"""


def test_several_processes_make_the_queue_and_add_to_it_at_the_same_time(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "service")]
    processes = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in range(3)]
    assert [process.communicate()[1] for process in processes] == [b""] * 3
    jobs = JobStore(tmp_path / "service").list(newest_first=False)
    for number in "012":
        assert [job.settings["max_steps"] for job in jobs if job.name == number] == list(range(1, 6))


def test_a_queue_of_a_newer_version_and_what_is_none_are_refused_by_name(tmp_path):
    store = JobStore(tmp_path / "newer")
    with sqlite3.connect(store.database.path) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(InputError, match=r"jobs.sqlite: is of version 7, this program knows up to 1: take the newer"):
        JobStore(tmp_path / "newer")
    (tmp_path / "jobs.sqlite").write_text("no database, but text that is long enough to be looked at " * 20)
    with pytest.raises(InputError, match=r"jobs.sqlite: file is not a database, expected"):
        JobStore(tmp_path)
    with pytest.raises(InputError, match=r"holds no jobs.sqlite, expected the folder of a service"):
        JobStore(tmp_path / "none", create=False)
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / "jobs.sqlite") as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(InputError, match="holds tables of another program"):
        JobStore(tmp_path / "other")


def test_a_transaction_waits_for_another_process_that_holds_the_lock(store):
    job = store.add("sft", CHATS)
    holder = sqlite3.connect(store.database.path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(store.cancel, job.id)
        assert store.get(job.id).state == "queued"  # whoever reads does not wait
        assert not asked.done()
        holder.execute("COMMIT")
        assert asked.result(timeout=10).state == "cancelled"


def test_details_are_kept_as_they_were_given_and_go_on_to_a_job_queued_again(store):
    details = {"model": "tiny", "metadata": {"a": "b"}}
    job = store.add("sft", CHATS, details=details)
    assert store.get(job.id).details == details == store.requeue(job.id, {"seed": 2}).details
