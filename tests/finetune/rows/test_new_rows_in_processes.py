"""New rows train in two processes as in one, whole in each (DDP) or spread over both (FSDP2)."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from finetune.losses.supervised_loss import SupervisedLoss
from tests.finetune.new_rows_in_processes import FIRST_NEW_ID, KINDS, NEW_TOKENS, SHARING, make_model, train
from tests.house.repository import ROOT
from tokenizer_ext.embeddings.tables import fold, new_row_parameters

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes left what they trained."""
    folder = tmp_path_factory.mktemp("processes")
    script = ROOT / "tests/finetune/new_rows_in_processes.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(folder)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return folder


@pytest.fixture(params=[(kind, sharing) for kind in KINDS for sharing in SHARING], ids=" ".join)
def trained(request, folder) -> tuple[str, dict[str, Any]]:
    """The kind of a model, and what two processes found."""
    kind, sharing = request.param
    return kind, json.loads((folder / f"{kind} {sharing}.json").read_text())


def test_the_losses_and_the_rows_are_those_of_one_process(trained):
    kind, found = trained
    model = make_model(kind)
    losses = train(SupervisedLoss(model))
    assert losses[-1] < losses[1] and losses[-2] < losses[0]
    assert found["losses"] == pytest.approx(losses, abs=1e-5)
    for rows, ours in zip(found["rows"], new_row_parameters(model).values(), strict=True):
        torch.testing.assert_close(torch.tensor(rows), ours.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_fsdp_leaves_each_process_half_of_the_rows_and_of_all_weights(folder, kind: str):
    found = json.loads((folder / f"{kind} fsdp2.json").read_text())
    assert all(shard[0] == 3 for shard in found["shards"])  # the other process has two
    assert 0.5 <= found["held"] < 0.54


def test_rows_that_no_process_holds_whole_are_not_folded_but_those_gathered_are(folder):
    found = json.loads((folder / "untied fsdp2.json").read_text())
    assert "its new rows are sharded over processes: copy the full_tensor()" in found["refused"]
    assert found["plain"] == found["rows"] and found["refused_when_gathered"] == ""
    model = make_model("untied")
    for parameter, rows in zip(new_row_parameters(model).values(), found["rows"], strict=True):
        parameter.data.copy_(torch.tensor(rows))
    fold(model)
    place = slice(FIRST_NEW_ID, FIRST_NEW_ID + NEW_TOKENS)
    assert torch.equal(model.get_input_embeddings().weight[place], torch.tensor(found["rows"][0]))
    assert torch.equal(model.get_output_embeddings().weight[place], torch.tensor(found["rows"][1]))
