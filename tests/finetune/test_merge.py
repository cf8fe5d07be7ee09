"""The entry merges a run into its folder, says what was compared, and ends with status 2 where it cannot."""

import pytest

from finetune import merge
from finetune.export import hub
from finetune.merge import MergeSettings, main
from tests.finetune.entry_runs import run_here
from tests.finetune.trained_runs import save_run, tuned
from tests.said_lines import without_progress


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tuned(), tmp_path_factory.mktemp("runs") / "sft-1").parent


@pytest.mark.parametrize("part", ["", "final", "final/adapter"])
def test_the_merged_model_goes_beside_final_whatever_part_of_the_run_is_named(run, part, tmp_path, capsys):
    (copied := tmp_path / "sft-2").symlink_to(run)
    settings = MergeSettings(tuned=str(copied / part))
    assert merge.choose_target(settings) == copied / "merged"
    run_here(main, MergeSettings, tuned=copied / part, output_dir=tmp_path / "merged")
    said = capsys.readouterr().out
    assert "Merged and read back from disk: at 256 positions its logits differ from the adapter's by at most" in said
    assert f"Saved: {tmp_path / 'merged'}; receipt: {tmp_path / 'merged' / 'receipt.json'}" in said
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_what_is_merged_can_be_uploaded(run, tmp_path, monkeypatch, capsys):
    pushed = []

    def push(folder, name, private):
        pushed.append((folder, name, private))
        return "https://hub/me/chat"

    monkeypatch.setattr(hub, "get_token", lambda: "hf_1")
    monkeypatch.setattr("finetune.export.hub.push", push)
    run_here(main, MergeSettings, tuned=run, output_dir=tmp_path / "merged", push_to_hub="me/chat", private="false")
    assert pushed == [(tmp_path / "merged", "me/chat", False)]
    assert "Uploaded: https://hub/me/chat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tuned": "nowhere"}, "no such folder"),
        ({"tuned": "base"}, "holds no adapter, so there is nothing to merge"),
        ({"tuned": "run", "output_dir": "base"}, "is not an empty folder"),
        ({"tuned": "run", "push_to_hub": "not a name"}, "push_to_hub: found 'not a name'"),
        ({"tuned": "run", "stored_as": "int8"}, "stored_as is 'int8', expected one of float32, bfloat16"),
    ],
)
def test_what_cannot_be_merged_ends_in_one_line_and_writes_nothing(run, settings, message, tmp_path, capsys):
    places = {"run": run, "base": run / "final" / "base", "nowhere": tmp_path / "nowhere"}
    given = {name: places.get(value, value) for name, value in settings.items()}
    with pytest.raises(SystemExit) as ended:
        run_here(main, MergeSettings, **{"output_dir": tmp_path / "merged", **given})
    said = capsys.readouterr().err
    assert ended.value.code == 2 and message in said and without_progress(said).count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_no_run_needs_an_output_dir(run, tmp_path, capsys):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(SystemExit):
        run_here(main, MergeSettings, tuned=tmp_path / "adapter")
    assert "output_dir: " in capsys.readouterr().err
