"""Preference tuning from end to end, on a tiny assistant and a hundred pairs."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune.chat.graft_format import GraftFormat
from finetune.compare import CompareSettings, has_calculator
from finetune.dpo import main
from finetune.export.final_folder import save_assistant
from finetune.export.saved_model import load_assistant, load_start
from finetune.lora.adapter_shape import Lora
from finetune.preference.batches import render_pairs
from finetune.preference.pair_splits import read_preference_splits
from finetune.preference.settings import DpoSettings
from finetune.preference.start_model import prepare_start
from finetune.replies import local_model
from scratch_models.loop.precision import has_bf16
from scratch_models.loop.run_folder import RunFolder
from tests.finetune.entry_runs import run_here, run_process
from tests.finetune.pair_records import write_pairs
from tests.finetune.preference_models import move
from tests.finetune.tiny_models import save_tiny_base
from tests.house.repository import ROOT
from tests.said_lines import without_progress
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.huggingface.hf_model import load_model

LAUNCH = ("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0", "--config_file")
TWO_PROCESSES = ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml"
TWO_SHARDS = ROOT / "configs" / "accelerate" / "two_cpu_shards.yaml"
SMALL = {
    "max_steps": 12,
    "warmup_steps": 2,
    "learning_rate": 0.005,
    "lora_rank": 4,
    "precision": "fp32",
    "pairs_per_step": 16,
    "evaluation_steps": 6,
    "evaluation_replies": 4,
    "reply_tokens": 8,
    "checkpoint_steps": 4,
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An assistant as a run leaves it: base and adapter."""
    folder = tmp_path_factory.mktemp("base")
    start = load_start(str(save_tiny_base(folder / "raw")), CPU)
    trainable = prepare_start(*start, Lora(rank=2, alpha=4.0, dropout=0.0))
    move(trainable.model)
    save_assistant(
        trainable.model, trainable.adapted, trainable.tokenizer, folder / "assistant" / "final", trainable.extended
    )
    return folder / "assistant"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl")


@pytest.fixture(scope="module")
def finished(base, data, tmp_path_factory):
    """The folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    run_here(main, DpoSettings, **SMALL, base=base, data=data, output_dir=folder, merge=True)
    return folder


@pytest.fixture(scope="module")
def weighted(base, tmp_path_factory):
    """The folder of a run on pairs that count less than others, and its data."""
    folder = tmp_path_factory.mktemp("weighted")
    data = write_pairs(folder / "pairs.jsonl", weights=(1, 0.5, 0.1))
    run_here(main, DpoSettings, **SMALL, base=base, data=data, output_dir=folder / "run")
    return folder / "run", data


def _metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _weights(run):
    files = sorted((run / "final").rglob("*.safetensors"))
    return {f"{path.parent.name}/{name}": one for path in files for name, one in load_file(path).items()}


def _equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_leaves_what_a_fine_tuning_run_leaves_and_the_reference(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        *("checkpoints", "final", "merged", "metrics.jsonl", "reference.safetensors", "report.html", "report.json"),
        "run.json",
    ]
    assert sorted(path.name for path in (finished / "final").iterdir()) == ["README.md", "adapter", "base"]


def test_it_starts_at_the_logarithm_of_two_and_the_rewards_come_apart(finished):
    start, *steps = _metrics(finished)
    assert start["held_out_loss_nats"] == pytest.approx(math.log(2), abs=1e-5)
    assert steps[0]["loss_nats"] == pytest.approx(math.log(2), abs=1e-5)
    assert abs(start["held_out_reward_margin"]) < 1e-4
    last = steps[-1]
    assert last["held_out_loss_nats"] < 0.65 and last["loss_nats"] < 0.65
    assert last["held_out_reward_accuracy"] > 0.5
    margin = last["held_out_chosen_reward"] - last["held_out_rejected_reward"]
    assert last["held_out_reward_margin"] == pytest.approx(margin, abs=1e-5) and margin > 0.2


def test_the_base_of_the_result_is_the_assistant_it_started_from_bit_by_bit(finished, base):
    start, _ = load_start(str(base), CPU)
    saved = load_model(str(finished / "final" / "base"))
    assert hash_weights(saved, 320) == hash_weights(start, 320)
    reported = json.loads((finished / "run.json").read_text())
    assert reported["reference"] == "the adapter switched off" and reported["engine"]["precision"] == "fp32"


def test_a_step_says_how_many_pairs_it_learned_from_and_how_many_tokens_of_their_replies(finished, base, data):
    tokenizer, splits = load_assistant(base)[1], read_preference_splits(str(data))
    rendered = render_pairs(GraftFormat(tokenizer), splits.training)
    replies = sum(int(side.count_supervised().sum()) for side in (rendered.chosen, rendered.rejected))
    steps = _metrics(finished)[1:]
    assert len(splits.training) == 95
    for epoch in (steps[:6], steps[6:]):
        assert [entry["pairs"] for entry in epoch] == [16, 16, 16, 16, 16, 15]
        assert sum(entry["supervised_tokens"] for entry in epoch) == replies > 2 * 95


def test_the_report_compares_the_reference_with_what_it_became(finished):
    report = json.loads((finished / "report.json").read_text())
    assert list(report["base_by_prompt"]) == ["chat"] and report["base"]["conversations"] == 4
    assert len(report["samples"]) == len(report["rejected"]) == 4
    assert report["facts"]["steps"] == "12"
    assert report["likelier"][1] >= report["likelier"][0] and report["facts"]["loss"] == "sigmoid, beta 0.1"
    page = (finished / "report.html").read_text()
    assert "reward margin" in page and page.count("<img") == 2
    card = (finished / "final" / "README.md").read_text()
    assert "| reward accuracy |" in card and "three plain-text ways" not in card


def test_the_report_says_the_steps_that_were_taken_and_whose_weights_were_kept(base, data, tmp_path):
    # So high a rate is at its best early, and the run ends when it has not been better for two evaluations.
    settings = {**SMALL, "learning_rate": 0.5, "warmup_steps": 0, "evaluation_steps": 1, "checkpoint_steps": 0}
    settings |= {"keep_best": True, "early_stopping_evaluations": 2}
    run_here(main, DpoSettings, **settings, base=base, data=data, output_dir=tmp_path / "run")
    best = min(_metrics(tmp_path / "run")[1:], key=lambda entry: entry["held_out_bits_per_byte"])["step"]
    last = _metrics(tmp_path / "run")[-1]["step"]
    assert best + 2 == last < SMALL["max_steps"]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["facts"]["steps"] == f"{last}; the weights are those of step {best}, the best"


def test_the_card_opens_the_model_as_it_says(finished, monkeypatch):
    card = (finished / "final" / "README.md").read_text()
    monkeypatch.chdir(finished / "final")
    exec(card.split("```python\n")[1].split("```")[0], {})


def test_the_merged_model_says_what_the_tuned_one_says(finished):
    tuned, tokenizer = load_assistant(finished)
    merged = load_model(str(finished / "merged"))
    ids = torch.tensor([tokenizer("What colour has the apple?")["input_ids"]])
    torch.testing.assert_close(merged(ids).logits, tuned(ids).logits, rtol=0, atol=1e-4)


@pytest.mark.long
def test_a_run_that_broke_and_was_resumed_ends_as_the_unbroken_one(finished, base, data, tmp_path, monkeypatch):
    append = RunFolder.append_metrics

    def append_and_break(run, entry):
        append(run, entry)
        if entry["step"] == 6:
            raise KeyboardInterrupt

    settings = {**SMALL, "base": base, "data": data, "output_dir": tmp_path / "broken", "merge": True}
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(RunFolder, "append_metrics", append_and_break)
        run_here(main, DpoSettings, **settings)
    assert not (tmp_path / "broken" / "final").exists()
    asked = (tmp_path / "broken" / "reference.safetensors").stat().st_mtime_ns
    run_here(main, DpoSettings, **settings, resume=True)
    assert (tmp_path / "broken" / "reference.safetensors").stat().st_mtime_ns == asked, "it is asked once"
    assert _equal(_weights(tmp_path / "broken"), _weights(finished))
    (tmp_path / "broken" / "reference.safetensors").write_bytes(b"damaged")  # then it is asked again, to the same end
    run_here(main, DpoSettings, **settings, resume=True)
    assert _equal(_weights(tmp_path / "broken"), _weights(finished))


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """Pairs whose replies hold arithmetic that a calculator completes."""
    records = [
        {"prompt": f"{n} + 1?", "chosen": f"<<{n}+1={n + 1}>>{n + 1}", "rejected": f"<<{n}-1={n - 1}>>{n - 1}."}
        for n in range(1, 60)
    ]
    path = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.long
def test_the_calculator_of_the_start_is_taken_over_used_and_recorded(base, sums, tmp_path, monkeypatch):
    start = Path(shutil.copytree(base, tmp_path / "start"))
    (start / "run.json").write_text('{"settings": {"calculator": true}}')
    used, generate_ids = [], local_model.generate_ids

    def look(*arguments, calculator, **options):
        used.append(calculator is not None)
        return generate_ids(*arguments, calculator=calculator, **options)

    monkeypatch.setattr(local_model, "generate_ids", look)
    settings = {**SMALL, "max_steps": 1, "base": start, "data": sums}
    run_here(main, DpoSettings, **settings, output_dir=tmp_path / "with")
    assert used and all(used)
    assert json.loads((tmp_path / "with" / "run.json").read_text())["settings"]["calculator"] is True
    assert has_calculator(CompareSettings(tuned=str(tmp_path / "with"), data=str(sums)))
    run_here(main, DpoSettings, **settings, calculator="false", output_dir=tmp_path / "without")
    assert not has_calculator(CompareSettings(tuned=str(tmp_path / "without"), data=str(sums)))
    (learned, with_results) = (_metrics(tmp_path / name)[1] for name in ("with", "without"))
    assert learned["tokens"] >= learned["supervised_tokens"] and learned["pairs"] == with_results["pairs"] == 16
    assert learned["supervised_tokens"] < with_results["supervised_tokens"], "results are not its own words"
    before, after = (_metrics(tmp_path / name)[0]["held_out_bits_per_byte"] for name in ("with", "without"))
    assert before != after


def test_a_reply_that_the_calculator_would_complete_otherwise_is_refused(base, sums, tmp_path, capsys):
    (tmp_path / "wrong.jsonl").write_text(
        sums.read_text() + '{"prompt": "Half of 48?", "chosen": "24", "rejected": "<<48/2=25>>25"}\n'
    )
    with pytest.raises(SystemExit):
        run_here(main, DpoSettings, **SMALL, base=base, data=tmp_path / "wrong.jsonl", calculator="true")
    assert "<<48/2=25>> is wrong, the calculator gives 24" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("launch", [TWO_PROCESSES, TWO_SHARDS], ids=["processes", "shards"])
def test_two_processes_learn_what_one_learns_also_of_pairs_that_weigh_less(base, weighted, tmp_path, launch):
    alone_in, data = weighted
    settings = {**SMALL, "base": base, "data": data, "output_dir": tmp_path / "run", "tokens_per_micro_batch": 300}
    ended = run_process("finetune/dpo.py", tmp_path, launch=(*LAUNCH, str(launch)), **settings)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Saved: ") == 1
    names = ("loss_nats", "held_out_loss_nats", "held_out_reward_margin")
    for together, alone in zip(_metrics(tmp_path / "run"), _metrics(alone_in), strict=True):
        for name in names:
            assert together.get(name) == (None if name not in alone else pytest.approx(alone[name], abs=1e-4))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "full"},
        pytest.param({"lora_options.init_lora_weights": "pissa"}, marks=pytest.mark.long),
        pytest.param(
            {"lora_options.use_dora": True, "precision": "bf16" if has_bf16(CPU) else "fp32"}, marks=pytest.mark.long
        ),
        {"loss": "ipo", "chosen_weight": 0.5},
    ],
    ids=["full", "pissa", "dora in bf16 where it can", "ipo"],
)
def test_every_way_to_tune_starts_from_its_reference_and_leaves_it(base, data, tmp_path, changes):
    settings = {**SMALL, **changes, "max_steps": 4, "learning_rate": 0.002, "evaluation_steps": 4, "warmup_steps": 0}
    run_here(main, DpoSettings, **settings, base=base, data=data, output_dir=tmp_path / "run")
    start, *_, last = _metrics(tmp_path / "run")
    assert abs(start["held_out_reward_margin"]) < 1e-3 < last["held_out_reward_margin"]
    assert last["held_out_loss_nats"] < start["held_out_loss_nats"]
    tuned, _ = load_assistant(tmp_path / "run")
    assert not tuned.training


def test_a_base_without_chat_format_is_asked_in_plain_text_and_learns_its_control_tokens(data, tmp_path, capsys):
    raw = save_tiny_base(tmp_path / "raw")
    settings = {**SMALL, "max_steps": 4, "evaluation_steps": 4, "base": raw, "data": data}
    run_here(main, DpoSettings, **settings, output_dir=tmp_path / "run")
    assert "4 control tokens were added" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["reference"] == "the original model, read once more"
    loss = json.loads((tmp_path / "run" / "report.json").read_text())["facts"]["loss"]
    assert loss.endswith("plus 1 x the nats per token of the chosen reply"), "it has to learn to reply, too"
    assert len(json.loads((tmp_path / "run" / "report.json").read_text())["base_by_prompt"]) == 3
    assert abs(_metrics(tmp_path / "run")[0]["held_out_reward_margin"]) < 1e-4


def test_a_dry_run_shows_a_pair_with_what_is_compared_and_writes_nothing(base, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_here(main, DpoSettings, **SMALL, base=base, data=data, dry_run=True)
    shown = capsys.readouterr().out
    assert "chosen: <|user|>What colour" in shown and "<|assistant|>[[It is red.<|end|>]]" in shown
    assert "reference: the adapter switched off" in shown and "beta = 0.1" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "no-rejected.jsonl"}, "no-rejected.jsonl:1: no 'rejected' (found 'prompt', 'chosen'), expected"),
        ({"data": "few.jsonl"}, "few.jsonl: 3 different prompts with two different replies are too few"),
        ({"data": "same.jsonl"}, "same.jsonl: 0 different prompts with two different replies"),
        ({"data": "none.jsonl"}, "none.jsonl: no such file"),
        ({"beta": 0}, "beta: found 0.0, expected a finite number above 0"),
        ({"beta": ".nan"}, "beta: found nan"),
        ({"chosen_weight": -1}, "chosen_weight: found -1.0, expected a finite number, 0 or more"),
        ({"loss": "hinge"}, "loss is 'hinge', expected one of sigmoid, ipo"),
        ({"pairs_per_step": 0}, "pairs_per_step: found 0, expected at least 1"),
        ({"maximum_tokens": 5}, "maximum_tokens 5: none of 95 pairs fits, the shortest has"),
        ({"lora_rank": 33}, "lora_rank: found 33, expected 1 to 32"),
        ({"method": "full", "lora_options.use_dora": "true"}, "lora_options: with --method full there is no adapter"),
        ({"base": "no/such/model"}, "no/such/model: no such folder"),
        ({"betta": 0.1}, "betta: no such setting, did you mean beta?"),
        ({"resume": True}, "resume: which run?"),
    ],
    ids=lambda value: "-".join(map(str, value.items())) if isinstance(value, dict) else "",
)
def test_what_a_user_can_mend_is_refused_in_one_line_and_nothing_is_written(
    base, data, tmp_path, monkeypatch, capsys, changes, said
):
    (tmp_path / "no-rejected.jsonl").write_text('{"prompt": "a", "chosen": "b"}\n')
    write_pairs(tmp_path / "few.jsonl", 3)
    (tmp_path / "same.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n' * 30)
    monkeypatch.chdir(tmp_path)
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as end:
        run_here(main, DpoSettings, **{"base": base, "data": data, "precision": "fp32", **changes})
    printed = capsys.readouterr()
    assert end.value.code == 2 and printed.out == "" and without_progress(printed.err).count("\n") == 1
    assert said in printed.err and sorted(Path().rglob("*")) == before
