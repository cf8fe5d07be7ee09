import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from configs import InputError, MissingInput, load_config
from scratch_models.checkpoints.checkpoint import load_newest_checkpoint
from scratch_models.scratch_folder import load_scratch_model
from scratch_models.train import TrainSettings, main
from tests.house.repository import ROOT
from tests.said_lines import without_progress

TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
ENTRY = ROOT / "scratch_models" / "train.py"
SMALL_GPT = ("--model", "gpt", "--layers", "1", "--heads", "2", "--width", "16", "--block_size", "16")
SHORT = ("--blocks_per_batch", "4", "--max_steps", "6", "--evaluation_steps", "2", "--checkpoint_steps", "2")


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """About 70 kB of English that every Python has, with one byte a character."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "topics.txt"
    text = "\n\n".join(topics[name] for name in ("class", "import", "specialnames"))
    path.write_bytes(text.encode("ascii", "ignore"))
    return str(path)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(*arguments: str) -> None:
    main(load_config(TrainSettings, list(arguments)))


def start(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, str(ENTRY), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


def metrics_of(folder: str) -> list[dict[str, float]]:
    """The lines of optimizer steps; what was measured before the first one has a line of its own."""
    lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in lines if entry["step"] > 0]


def test_the_defaults_are_the_bigram_run_of_the_brief():
    settings = TrainSettings()
    shape = (settings.model, settings.tokens, settings.block_size, settings.blocks_per_batch)
    assert shape == ("bigram", "characters", 8, 32)
    assert (settings.max_steps, settings.learning_rate, settings.muon_learning_rate) == (10_000, 1e-3, None)


def test_a_run_ends_with_its_loss_and_300_characters(text_file: str, capsys: pytest.CaptureFixture[str]):
    run("--data", text_file, *SHORT)
    said, sampled = capsys.readouterr().out.split("Saved: runs/scratch-1/final\n")
    last = metrics_of("runs/scratch-1")[-1]
    assert said.startswith(f"End of training. Loss: {last['held_out_loss_nats']:.4f} nats per token")
    assert len(sampled.removesuffix("\n")) == 300


def test_a_run_leaves_the_files_of_every_run(text_file: str):
    run("--data", text_file, *SHORT, "--output_dir", "here")
    assert {path.name for path in Path("here").iterdir()} == {"run.json", "metrics.jsonl", "checkpoints", "final"}
    assert [entry["step"] for entry in metrics_of("here")] == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in metrics_of("here") if "held_out_loss_nats" in entry] == [2, 4, 6]
    fields = {"step", "loss_nats", "learning_rate", "gradient_norm", "tokens", "supervised_tokens"}
    assert fields | {"tokens_per_second", "seconds"} <= metrics_of("here")[0].keys()
    record = json.loads(Path("here/run.json").read_text())
    assert record["settings"]["data"] == text_file
    assert {"data_sha256", "tokenizer_sha256", "versions", "world_size"} <= record.keys()
    assert sorted(path.name for path in Path("here/checkpoints").iterdir()) == ["step_00000004", "step_00000006"]


def test_the_best_weights_are_saved_and_their_figure_is_printed(text_file: str, capsys: pytest.CaptureFixture[str]):
    # So high a rate is at its best early.
    options = ("--learning_rate", "3", "--max_steps", "6", "--evaluation_steps", "1", "--keep_best")
    run("--data", text_file, *options, "--output_dir", "here")
    best = min(metrics_of("here"), key=lambda line: line["held_out_bits_per_byte"])
    assert best["step"] < 6
    assert f"({best['held_out_bits_per_byte']:.4f} bits per byte)" in capsys.readouterr().out
    trained, _ = load_scratch_model("here")
    kept = load_newest_checkpoint(Path("here/best"))[0]
    assert kept.step == best["step"]
    assert torch.equal(
        trained.token_embedding_table.weight, kept.tensors["trained"]["model.token_embedding_table.weight"]
    )


@pytest.mark.parametrize("model", [(), SMALL_GPT], ids=["bigram", "gpt"])
def test_what_was_saved_has_the_held_out_loss_that_was_printed(text_file: str, model: tuple[str, ...]):
    run("--data", text_file, *model, *SHORT, "--output_dir", "here")
    trained, vocabulary = load_scratch_model("here")
    text = Path(text_file).read_text()
    ids = torch.tensor(vocabulary.encode(text[int(0.9 * len(text)) :]))
    size = 16 if model else 8
    with torch.no_grad():
        rows = [
            (ids[start : start + size], ids[start + 1 : start + size + 1]) for start in range(0, len(ids) - 1, size)
        ]
        nats = sum(
            float(torch.nn.functional.cross_entropy(trained(row[None, : len(targets)])[0], targets, reduction="sum"))
            for row, targets in rows
        )
    last = metrics_of("here")[-1]
    assert last["held_out_loss_nats"] == pytest.approx(nats / (len(ids) - 1), rel=1e-5)
    # A character is a token and a byte here, so bits per byte are bits per token.
    assert last["held_out_bits_per_byte"] == pytest.approx(last["held_out_loss_nats"] / 0.6931472, rel=1e-5)


def test_a_gpt_on_bpe_ids_opens_in_transformers(text_file: str):
    run("--data", text_file, *SMALL_GPT, *SHORT, "--tokens", "bpe", "--vocabulary_size", "300", "--output_dir", "here")
    model, tokenizer = GPT2LMHeadModel.from_pretrained("here/final"), AutoTokenizer.from_pretrained("here/final")
    assert len(tokenizer) == model.config.vocab_size == 300
    assert tokenizer.decode(tokenizer("The class statement")["input_ids"]) == "The class statement"


@pytest.mark.parametrize("model", ["gpt", "megabyte"])
def test_a_model_of_bytes_has_the_bits_per_byte_that_were_printed(tmp_path: Path, model: str):
    text = "😀 Ein Bär, ein Käse: 猫!\n" * 90  # the first byte that is held out is no character
    Path("text.txt").write_text(text, encoding="utf-8")
    options = ("--tokens", "bytes", "--model", model, *SMALL_GPT[2:], "--local_width", "8", *SHORT)
    run("--data", "text.txt", *options, "--output_dir", "here")
    trained, vocabulary = load_scratch_model("here")
    held_out = text[int(0.9 * len(text)) :]
    assert vocabulary.encode(held_out) == list(held_out.encode())
    ids = torch.tensor(list(held_out.encode()))
    blocks = [ids[start : start + 17] for start in range(0, len(ids) - 1, 16)]
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(trained(row[None, :-1])[0], row[1:], reduction="sum") for row in blocks
        ]
    bits = sum(map(float, losses)) / math.log(2) / (len(ids) - 1)
    assert metrics_of("here")[-1]["held_out_bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_a_patch_that_does_not_divide_the_block_is_refused(text_file: str, empty_folder: Path):
    with pytest.raises(InputError, match="patch_size: found 4, expected a divisor of block_size, which is 10"):
        run("--data", text_file, "--model", "megabyte", "--block_size", "10")
    assert list(empty_folder.iterdir()) == []


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    text_file: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
):
    run("--data", text_file, *SMALL_GPT, "--dry_run")
    said = capsys.readouterr().out
    characters = len(set(Path(text_file).read_text()))
    parameters = 16 * (characters + 16) + 12 * 16**2 + 13 * 16 + 2 * 16  # GPT-2's count for one block of width 16
    for expected in (
        "learning_rate = 0.001",
        f"parameters: {parameters:,}",
        "to train on",
        "supervised: 100 %",
        "block",
    ):
        assert expected in said
    assert list(empty_folder.iterdir()) == []


@pytest.mark.long
def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(text_file: str):
    steps = ("--max_steps", "500", "--evaluation_steps", "200", "--checkpoint_steps", "20", "--schedule", "cosine")
    blocks = ("--blocks_per_batch", "4", "--blocks_per_micro_batch", "3")
    arguments = ("--data", text_file, *SMALL_GPT, "--dropout", "0.1", *blocks, *steps)
    killed = start(*arguments, "--output_dir", "killed")
    metrics = Path("killed/metrics.jsonl")
    while killed.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 90):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not Path("killed/final").exists()
    run(*arguments, "--output_dir", "killed", "--resume")
    run(*arguments, "--output_dir", "unbroken")
    assert Path("killed/final/model.safetensors").read_bytes() == Path("unbroken/final/model.safetensors").read_bytes()
    assert [entry["loss_nats"] for entry in metrics_of("killed")] == [
        entry["loss_nats"] for entry in metrics_of("unbroken")
    ]


def test_a_run_that_was_killed_while_it_saved_its_model_saves_it_on_resume(
    text_file: str, capsys: pytest.CaptureFixture[str]
):
    arguments = ("--data", text_file, *SHORT, "--output_dir", "here")
    run(*arguments)
    first = capsys.readouterr().out
    Path("here/final/model.safetensors").unlink()
    run(*arguments, "--resume")
    assert capsys.readouterr().out == first
    assert Path("here/final/model.safetensors").exists()


@pytest.mark.long
def test_two_processes_leave_one_set_of_files_and_the_losses_of_one(text_file: str):
    arguments = ("--data", text_file, *SMALL_GPT, *SHORT, "--learning_rate", "0.01", "--max_steps", "20")
    config = str(ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml")
    launcher = (
        "-m",
        "accelerate.commands.accelerate_cli",
        "launch",
        "--config_file",
        config,
        "--main_process_port",
        "0",
    )
    launched = start(*arguments, "--blocks_per_micro_batch", "1", launcher=launcher)
    said, errors = launched.communicate()
    assert launched.returncode == 0, errors
    assert said.count("End of training. Loss: ") == 1
    assert [path.name for path in Path("runs").iterdir()] == ["scratch-1"]
    run(*arguments)
    two, one = metrics_of("runs/scratch-1"), metrics_of("runs/scratch-2")
    assert [entry["step"] for entry in two] == list(range(1, 21))
    for name in ("loss_nats", "held_out_loss_nats"):
        found = [entry[name] for entry in two if name in entry]
        assert found == pytest.approx([entry[name] for entry in one if name in entry], abs=1e-4)
        assert found[-1] < found[0] - 0.2


@pytest.fixture
def shakespeare() -> str:
    if not TINY_SHAKESPEARE.is_file():
        pytest.skip("tinyshakespeare.txt is not in the folder shared/data beside the repository")
    return str(TINY_SHAKESPEARE)


@pytest.mark.long
def test_the_converged_bigram_is_as_good_as_counted_pairs(shakespeare: str):
    text = Path(shakespeare).read_text()
    training, held_out = text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]
    pairs, firsts, characters = Counter(pairwise(training)), Counter(training[:-1]), len(set(text))
    nats = [-math.log((pairs[pair] + 1) / (firsts[pair[0]] + characters)) for pair in pairwise(held_out)]
    run("--config", str(ROOT / "configs" / "bigram_converged.yaml"), "--data", shakespeare, "--output_dir", "here")
    assert metrics_of("here")[-1]["held_out_loss_nats"] == pytest.approx(statistics.mean(nats), abs=0.02)


@pytest.mark.long
def test_the_small_gpt_on_characters_comes_below_1_90_nats(shakespeare: str):
    run("--config", str(ROOT / "configs" / "gpt_char.yaml"), "--data", shakespeare, "--output_dir", "here")
    assert metrics_of("here")[-1]["held_out_loss_nats"] <= 1.90


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--data", "nowhere.txt"), "nowhere.txt: no such file"),
        (("--corpus", "my_text.txt"), "corpus: no such setting, did you mean data?"),
        (("--learing_rate", "1"), "learing_rate: no such setting, did you mean learning_rate?"),
    ],
)
def test_bad_input_ends_the_process_with_status_2_and_one_line(
    arguments: tuple[str, ...], reason: str, empty_folder: Path
):
    process = start(*arguments)
    said, errors = process.communicate()
    assert (process.returncode, said) == (2, "")
    assert errors.startswith(reason) and without_progress(errors).count("\n") == 1
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--data EMPTY", "EMPTY: is empty, expected a text file"),
        ("--data SHORT --block_size 64", "training part of the corpus has 45 tokens, expected at least 65"),
        ("--data SHORT --tokens bpe --vocabulary_size 5000", "."),
        ("--data .", "is a folder"),
        ("--data embedded --learning_rate -1e-3", r"learning_rate: found -0\.001, expected a finite number above 0"),
        ("--learning_rate .nan", "learning_rate: found nan"),
        ("--model gpt --muon_learning_rate -1", "muon_learning_rate: found -1.0"),
        ("--data SHORT --muon_learning_rate 0.02", "muon_learning_rate: the model has no blocks"),
        ("--dropout 1", "dropout: found 1.0"),
        ("--max_steps 0", "max_steps: found 0, expected at least 1"),
        ("--warmup_steps -1", r"warmup_steps: found -1, expected 0 or more"),
        ("--seed -1", "seed: found -1"),
        ("--sample_characters 0", "sample_characters: found 0"),
        ("--data SHORT --model gpt --width 10 --heads 3", "width 10 is not a multiple of heads 3"),
        ("--early_stopping_evaluations -1", "early_stopping_evaluations: found -1, expected 0 or more"),
        ("--data SHORT --log_with tensorbord", "log_with: found 'tensorbord', expected one of .*mean tensorboard"),
        ("--precision auto", "precision: found auto, expected fp32 or bf16"),
        ("--gradient_checkpointing", "gradient_checkpointing: found True, expected False"),
        ("--compile", "compile: found True, expected False: bigram has no blocks"),
        ("--blocks_per_micro_batch 33", "blocks_per_micro_batch: found 33, expected at least 1 and at most .* is 32"),
        ("--blocks_per_micro_batch 0", "blocks_per_micro_batch: found 0, expected at least 1"),
        ("--adam_beta2 1", "adam_beta2: found 1.0, expected above 0 and below 1"),
        ("--tokens charcters", "tokens: found charcters, expected characters, bytes, bpe, or a tokenizer: a folder"),
        ("--data SHORT --tokens .", "holds no config.json, expected a folder with .* tokenizer.json"),
        ("--resume", "resume: which run"),
        ("--resume --output_dir nowhere", "no run.json"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments: str, reason: str, empty_folder: Path):
    inputs = {"EMPTY": "", "SHORT": "A text of fifty characters, which is not a lot of."}
    for name, content in inputs.items():
        (empty_folder / name).write_text(content)
    with pytest.raises(InputError, match=reason) as refused:
        run(*arguments.split())
    assert "\n" not in str(refused.value)
    assert {path.name for path in empty_folder.iterdir()} == inputs.keys()


def test_a_folder_that_holds_another_run_is_left_as_it_is(text_file: str):
    run("--data", text_file, *SHORT, "--output_dir", "here")
    before = {path: path.stat().st_mtime_ns for path in Path("here").rglob("*")}
    with pytest.raises(InputError, match="output_dir here: holds another run"):
        run("--data", text_file, *SHORT, "--output_dir", "here")
    assert {path: path.stat().st_mtime_ns for path in Path("here").rglob("*")} == before


def test_resume_refuses_other_settings_and_another_text(text_file: str):
    changed = Path("changed.txt")
    changed.write_text(Path(text_file).read_text())
    run("--data", "changed.txt", *SHORT, "--output_dir", "here")
    with pytest.raises(InputError, match="here: was started with block_size = 8, now it is 4"):
        run("--data", "changed.txt", *SHORT, "--output_dir", "here", "--resume", "--block_size", "4")
    changed.write_text(Path(text_file).read_text() + ".")
    with pytest.raises(InputError, match="here: data is not what the run was started with"):
        run("--data", "changed.txt", *SHORT, "--output_dir", "here", "--resume")


def test_a_missing_file_is_an_error_of_its_own_kind():
    with pytest.raises(MissingInput):
        run("--data", "nowhere.txt")
