"""Preference tuning and pretraining of a base that two processes read by slices, against the same in one process."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from finetune import dpo, pretrain
from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.export.saved_model import load_assistant
from finetune.preference.settings import DpoSettings
from finetune.pretraining.settings import PretrainSettings
from scratch_models.loop.run_folder import RunFolder
from tests.finetune.entry_runs import run_here
from tests.finetune.extended_models import save_base
from tests.finetune.pair_records import write_pairs
from tests.reliability.forked_ranks import run_ranks
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

pytestmark = pytest.mark.long

COMMON = {"max_steps": 4, "evaluation_steps": 2, "checkpoint_steps": 2, "lora_rank": 4, "precision": "fp32"}
DPO = {"pairs_per_step": 8, "evaluation_pairs": 5, "evaluation_replies": 2, "reply_tokens": 4}
PRETRAIN = {"blocks_per_batch": 4, "block_size": 32, "evaluation_blocks": 3, "sample_tokens": 4}
Tuning = tuple[Any, type, dict[str, Any]]
KINDS: dict[str, Tuning] = {
    "dpo": (dpo.main, DpoSettings, {**COMMON, **DPO}),
    "pretrain": (pretrain.main, PretrainSettings, {**COMMON, **PRETRAIN}),
}


@pytest.fixture(params=["dpo", "pretrain"])
def tuning(request, tmp_path: Path) -> Tuning:
    """An entry with its settings, on a base that knows the control tokens, so that none of its rows is new."""
    plain = str(save_base("llama", tmp_path / "plain"))
    known = extend_vocabulary((load_model(plain), load_tokenizer(plain)), control_tokens=list(CONTROL_TOKENS))
    known.save(tmp_path / "base")
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Of {number} apples two are red, and {number - 2} are not." for number in range(400)))
    main, schema, settings = KINDS[request.param]
    read = {"data": write_pairs(tmp_path / "pairs.jsonl")} if schema is DpoSettings else {"corpus": text}
    return main, schema, {**settings, **read, "base": tmp_path / "base"}


def tune(tuning: Tuning, folder: Path, _rank: int = 0, **more: Any) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    main, schema, settings = tuning
    run_here(main, schema, **settings, output_dir=folder, **more)


def figures(folder: Path) -> list[float]:
    names = ("loss_nats", "held_out_loss_nats", "held_out_bits_per_byte")
    return [entry[name] for entry in RunFolder(folder).read_metrics() for name in names if name in entry]


def test_two_processes_learn_from_slices_what_one_learns_and_one_goes_on_from_there(tuning, tmp_path: Path, capfd):
    alone, spread, logs = tmp_path / "alone", tmp_path / "spread", tmp_path / "logs"
    tune(tuning, alone)
    assert run_ranks(partial(tune, tuning, spread), logs, sharded=True, seconds=120) == [0, 0], said(logs)
    assert "whole base" not in said(logs) + capfd.readouterr().out
    assert figures(spread) == pytest.approx(figures(alone), abs=1e-5)
    assert sorted(path.name for path in spread.iterdir()) == sorted(path.name for path in alone.iterdir())
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        ours, theirs = (load_assistant(folder)[0](input_ids=ids).logits for folder in (spread, alone))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    for gone in (spread / "final", spread / "checkpoints" / "step_00000004"):
        shutil.rmtree(gone)
    tune(tuning, spread, resume=True)
    assert figures(spread) == pytest.approx(figures(alone), abs=1e-5)


def said(logs: Path) -> str:
    return "\n".join(path.read_text()[-3000:] for path in sorted(logs.iterdir()))
