import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from configs import InputError, MissingInput
from scratch_models.loop.run_folder import RunFolder, choose_run_folder, find_recorded, find_run, newest_run

SETTINGS: dict[str, Any] = {"learning_rate": 0.1, "max_steps": 10, "resume": False, "dry_run": False}
FACTS = {"data_sha256": "d" * 64, "tokenizer_sha256": "t" * 64, "world_size": 1}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(output_dir: str | None = None, **changed: Any) -> RunFolder:
    settings = SETTINGS | {"output_dir": output_dir} | changed
    run = choose_run_folder(output_dir, "sft", settings, resume=settings["resume"])
    return run.start(settings, FACTS, resume=settings["resume"])


def test_a_run_without_a_folder_gets_the_next_number():
    for name in ("sft-2", "sft-10", "sft-old", "sft-base-99"):
        Path("runs", name).mkdir(parents=True)
    assert [start().path, start().path] == [Path("runs/sft-11"), Path("runs/sft-12")]


def test_choosing_a_folder_writes_nothing(empty_folder: Path):
    choose_run_folder(None, "sft", SETTINGS, resume=False)
    choose_run_folder("new", "sft", SETTINGS, resume=False)
    assert list(empty_folder.iterdir()) == []


def test_runs_that_start_at_once_get_folders_of_their_own():
    chosen = [choose_run_folder(None, "sft", SETTINGS, resume=False) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(lambda run: run.start(SETTINGS, FACTS, resume=False), chosen))
    assert {run.path.name for run in started} == {f"sft-{number}" for number in range(1, 9)}


def test_the_record_holds_settings_versions_and_hashes():
    record = json.loads((start("here").path / "run.json").read_text())
    assert record["settings"]["learning_rate"] == 0.1
    assert {"torch", "transformers", "accelerate"} <= record["versions"].keys()
    assert FACTS.items() <= record.items()


def test_an_empty_folder_may_be_named():
    Path("here").mkdir()
    assert start("here").path == Path("here")


def test_a_folder_that_holds_another_run_is_refused():
    start("here")
    with pytest.raises(InputError, match=r"output_dir here: holds another run: .*--resume"):
        start("here")


def test_a_folder_that_another_run_takes_before_ours_starts_is_refused():
    slow = choose_run_folder("here", "sft", SETTINGS, resume=False)
    start("here")
    with pytest.raises(InputError, match="holds another run"):
        slow.start(SETTINGS, FACTS, resume=False)


def test_a_folder_of_something_else_and_a_file_are_refused():
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("x")
    with pytest.raises(InputError, match="output_dir mine: is not empty"):
        start("mine")
    with pytest.raises(InputError, match=r"output_dir mine/thesis\.txt: is a file"):
        start("mine/thesis.txt")
    with pytest.raises(InputError, match=r"output_dir mine/thesis\.txt/run: cannot be made"):
        start("mine/thesis.txt/run")


def test_the_same_settings_resume_in_the_same_folder():
    started = start("here")
    assert start("here", resume=True).path == started.path


def test_to_resume_with_another_setting_is_refused_by_its_name():
    start("here")
    with pytest.raises(InputError, match=r"here: was started with learning_rate = 0\.1, now it is 0\.2"):
        start("here", resume=True, learning_rate=0.2)


def test_a_run_of_a_version_that_lacked_a_setting_is_not_resumed_by_guess():
    record = start("here").path / "run.json"
    told = json.loads(record.read_text())
    del told["settings"]["learning_rate"]
    record.write_text(json.dumps(told))
    with pytest.raises(InputError, match="here: was started by a version that had no learning_rate"):
        start("here", resume=True)


@pytest.mark.parametrize("what", ["data", "tokenizer"])
def test_to_resume_with_another_input_is_refused_by_its_name(what: str):
    start("here")
    run = choose_run_folder("here", "sft", SETTINGS, resume=True)
    with pytest.raises(InputError, match=f"here: {what} is not what the run was started with .*aaaa"):
        run.start(SETTINGS, FACTS | {f"{what}_sha256": "a" * 64}, resume=True)


def test_another_number_of_processes_may_resume():
    start("here")
    run = choose_run_folder("here", "sft", SETTINGS, resume=True)
    assert run.start(SETTINGS, FACTS | {"world_size": 2}, resume=True).path == Path("here")


def test_resume_asks_which_run_and_refuses_a_folder_without_one():
    with pytest.raises(InputError, match="resume: which run"):
        start(None, resume=True)
    with pytest.raises(MissingInput, match=r"output_dir nowhere: no run\.json"):
        start("nowhere", resume=True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": 1}', "\xff"])
def test_a_record_that_no_run_wrote_is_one_line(content: str):
    Path("here").mkdir()
    Path("here/run.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"here/run\.json: .*expected what a run wrote there"):
        start("here", resume=True)


def test_any_folder_of_a_run_leads_to_its_record():
    run = start("here")
    (run.final / "adapter").mkdir(parents=True)
    for folder in ("here", "here/final", "here/final/adapter", Path("here/final/adapter").absolute()):
        found = find_run(folder)
        assert found is not None and found.path == run.path.absolute()
        assert found.record() == json.loads((run.path / "run.json").read_text())
        assert find_recorded(folder, "max_steps") == 10 and find_recorded(folder, "no such setting") is None


def test_a_folder_of_no_run_leads_to_none_and_a_damaged_record_is_never_taken_for_that():
    Path("other").mkdir()
    assert find_run("other") is None and find_recorded("other", "seed") is None
    with pytest.raises(MissingInput, match=r"other: no run\.json"):
        RunFolder(Path("other")).record()
    Path("other/run.json").write_text('{"settings": ')
    for read in (lambda: find_recorded("other", "seed"), RunFolder(Path("other")).record):
        with pytest.raises(InputError, match=r"other/run\.json: cannot be read"):
            read()


def test_a_line_of_metrics_that_was_cut_short_is_left_out():
    run = start("here")
    for step in (1, 2, 3):
        run.append_metrics({"step": step, "tokens": 8, "seconds": 0.5})
    with run.metrics.open("a") as file:
        file.write('{"step": 4, "los')
    assert [entry["step"] for entry in run.read_metrics()] == [1, 2, 3]
    run.drop_metrics_after(2)
    run.append_metrics({"step": 3, "tokens": 8, "seconds": 0.5})
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [1, 2, 3]


def test_the_newest_run_is_the_one_that_finished_last():
    with pytest.raises(InputError, match="no finished run"):
        newest_run()
    first, second, _unfinished = start(), start(), start()
    for seconds, run in enumerate((second, first)):
        run.final.mkdir()
        os.utime(run.final, (seconds, seconds))
    assert newest_run().path == first.path
