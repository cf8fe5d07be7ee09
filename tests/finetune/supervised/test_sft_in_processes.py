"""`finetune/sft.py` in two processes, whole in each (DDP) or sharded over both (FSDP2), against one process."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.export.saved_model import load_assistant
from tests.finetune.entry_runs import SMALL, run_process
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.house.repository import ROOT
from tokenizer_ext.extension.certificate import read_certificate

pytestmark = pytest.mark.long

LAUNCH = ("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0", "--config_file")
SHARING = {"ddp": "two_cpu_processes.yaml", "fsdp2": "two_cpu_shards.yaml"}
METHODS: dict[str, dict[str, Any]] = {"lora": {}, "full": {"method": "full"}}
# fp32, whose sums differ little between processes, and not whatever a probe finds fastest.
COMMON = {**SMALL, "max_steps": 8, "evaluation_steps": 4, "checkpoint_steps": 3, "keep_best": True, "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A base, its data, and room for the runs."""
    folder = tmp_path_factory.mktemp("runs")
    save_tiny_base(folder / "base")
    write_questions(folder / "data.jsonl")
    return folder


def run(folder: Path, name: str, launch: tuple[str, ...] = (), **settings: Any) -> Path:
    """The folder of a run, which is made where it is not there yet or is to be resumed."""
    if not (folder / name).exists() or settings.get("resume"):
        settings = {**COMMON, **settings, "base": folder / "base", "data": folder / "data.jsonl"}
        ended = run_process("finetune/sft.py", folder, launch=launch, output_dir=folder / name, **settings)
        assert ended.returncode == 0, ended.stderr
    return folder / name


@pytest.fixture(params=[(sharing, method) for sharing in SHARING for method in METHODS], ids=" ".join)
def runs(request, folder) -> tuple[Path, Path, str]:
    """The folders of a run in two processes and of the same in one, and how the two share the work."""
    sharing, method = request.param
    launch = (*LAUNCH, str(ROOT / "configs" / "accelerate" / SHARING[sharing]))
    alone = run(folder, f"{method} alone", **METHODS[method])
    return run(folder, f"{method} {sharing}", launch, **METHODS[method]), alone, sharing


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every saved tensor."""
    files = sorted((run / "final").rglob("*.safetensors"))
    return {f"{file.parent.name} {name}": one for file in files for name, one in load_file(file).items()}


def test_two_processes_learn_what_one_learns(runs):
    together, alone, sharing = runs
    record = json.loads((together / "run.json").read_text())
    assert (record["world_size"], record["sharded"]) == (2, sharing == "fsdp2")
    for name in ("loss_nats", "held_out_loss_nats", "supervised_tokens"):
        ours, theirs = ([entry[name] for entry in lines(run) if name in entry] for run in (together, alone))
        # AdamW divides by the size of a gradient, so that what rounding makes of a tiny one grows with each step.
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_the_first_steps_are_the_same_to_five_digits(runs):
    ours, theirs = ([entry["loss_nats"] for entry in lines(run) if "loss_nats" in entry][:3] for run in runs[:2])
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_saved_model_is_whole_and_its_certificate_holds(runs):
    together, alone, _ = runs
    ours, theirs = weights(together), weights(alone)
    assert {name: one.shape for name, one in ours.items()} == {name: one.shape for name, one in theirs.items()}
    for name, one in theirs.items():
        torch.testing.assert_close(ours[name], one, atol=5e-3, rtol=0)
    certificates = [read_certificate(found.parent) for found in (together / "final").rglob("certificate.json")]
    assert len(certificates) == 1
    model, tokenizer = load_assistant(together)
    assert len(tokenizer) <= len(model.get_input_embeddings().weight)


def test_the_report_and_the_replies_are_written_once(runs):
    together, alone, _ = runs
    ours, theirs = (sorted(path.name for path in run.iterdir()) for run in (together, alone))
    assert ours == theirs and "report.html" in ours and "best" in ours


def test_a_sharded_run_goes_on_in_one_process(folder):
    """Two shards for six of eight steps, then one process: its checkpoints are whole."""
    launch = (*LAUNCH, str(ROOT / "configs" / "accelerate" / SHARING["fsdp2"]))
    whole = run(folder, "lora fsdp2", launch)
    resumed = folder / "resumed"
    resumed.mkdir()
    for name in ("run.json", "metrics.jsonl"):
        (resumed / name).write_text((whole / name).read_text())
    step = whole / "checkpoints" / "step_00000006"
    shutil.copytree(step, resumed / "checkpoints" / step.name)
    run(folder, "resumed", resume=True)
    ours, theirs = ([entry["loss_nats"] for entry in lines(one) if "loss_nats" in entry] for one in (resumed, whole))
    assert ours == pytest.approx(theirs, abs=1e-5)
