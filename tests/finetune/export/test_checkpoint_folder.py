"""A checkpoint opened as a model is what the run would have left, had it ended there; what cannot be is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs import InputError
from finetune.export.checkpoint_folder import is_checkpoint, run_at
from finetune.export.saved_model import find_base, load_assistant
from scratch_models.checkpoints.checkpoint import list_checkpoints
from tests.finetune.short_runs import tune

WAYS: dict[str, dict[str, Any]] = {
    "DoRA and new rows": {"lora_options": {"use_dora": True}, "new_tokens": 3},
    "every weight": {"method": "full"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def logits(place: Path) -> torch.Tensor:
    model, tokenizer = load_assistant(place)
    with torch.no_grad():
        return model(torch.tensor([tokenizer.encode("What colour has the boat number 3? It is red.")])).logits


@pytest.mark.parametrize("way", ["DoRA and new rows", pytest.param("every weight", marks=pytest.mark.long)])
def test_a_checkpoint_is_what_a_run_that_ends_there_leaves(tmp_path, way):
    run, short = tune(tmp_path, 3, **WAYS[way]), tune(tmp_path, 2, **WAYS[way])
    checkpoints = list_checkpoints(run / "checkpoints")
    assert len(checkpoints) == 3 and all(map(is_checkpoint, checkpoints))  # none was dropped
    torch.testing.assert_close(logits(checkpoints[1]), logits(short), rtol=0, atol=0)
    torch.testing.assert_close(logits(checkpoints[2]), logits(run), rtol=0, atol=0)
    assert (logits(checkpoints[0]) - logits(run)).abs().max() > 1e-3
    assert find_base(checkpoints[0]) == str(tmp_path / "base")
    opened = run_at(checkpoints[0])
    assert not [path for path in opened.rglob("*") if path.name in ("certificate.json", "report.html", "README.md")]


def test_what_is_damaged_unfinished_or_changes_its_base_is_refused(tmp_path):
    run = tune(tmp_path, 2, lora_options={"init_lora_weights": "pissa"})
    first, last = list_checkpoints(run / "checkpoints")
    with pytest.raises(InputError, match="PiSSA"):
        load_assistant(last)
    trained = load_file(first / "trained.safetensors")
    save_file({name: tensor + 1 for name, tensor in trained.items()}, first / "trained.safetensors")
    with pytest.raises(InputError, match="is not the file that was saved"):
        load_assistant(first)
    (run / "final").rename(run / "away")
    with pytest.raises(InputError, match="has no final/"):
        load_assistant(last)
    assert not any((tmp_path / "cache" / "graft" / "checkpoints").glob("*/run.json"))
