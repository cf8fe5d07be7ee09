"""Every weight of a base tuned by two processes that read it by slices, against the same in one process."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from finetune import pretrain, sft
from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.export.checkpoint_folder import run_at
from finetune.export.saved_model import load_assistant
from finetune.pretraining.settings import PretrainSettings
from finetune.supervised.settings import SftSettings
from scratch_models.checkpoints.checkpoint import load_newest_checkpoint
from scratch_models.loop.run_folder import RunFolder
from tests.finetune.entry_runs import run_here
from tests.finetune.extended_models import save_base
from tests.reliability.forked_ranks import run_ranks
from tokenizer_ext.extension.certificate import hash_weights, read_certificate
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

pytestmark = pytest.mark.long

COMMON: dict[str, Any] = {
    "method": "full",
    "max_steps": 4,
    "evaluation_steps": 2,
    "checkpoint_steps": 2,
    "precision": "fp32",
    "keep_best": True,
}
SFT = {"conversations_per_step": 8, "evaluation_conversations": 2, "evaluation_replies": 1, "reply_tokens": 4}
PRETRAIN = {"blocks_per_batch": 4, "block_size": 32, "evaluation_blocks": 3, "sample_tokens": 4}
FIGURES = ("loss_nats", "gradient_norm", "held_out_loss_nats", "held_out_bits_per_byte")
SLICES = ["shard-00001-model-00001-of-00001.safetensors", "shard-00002-model-00001-of-00001.safetensors"]
Tuning = partial[None]


def tune(main: Any, schema: type, settings: dict[str, Any], folder: Path, _rank: int = 0, **more: Any) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    run_here(main, schema, **settings, output_dir=folder, **more)


@pytest.fixture(params=["pretrain llama", "pretrain gpt2", "sft llama", "sft tied"])
def tuning(request, tmp_path: Path) -> Tuning:
    """An entry with its settings, on a base that knows the control tokens, so that none of its rows is new."""
    entry, family = request.param.split()
    plain = str(save_base("llama" if family == "tied" else family, tmp_path / "plain"))
    model = load_model(plain)
    if family == "tied":
        model.config.tie_word_embeddings = True
        model.tie_weights()
    known = extend_vocabulary((model, load_tokenizer(plain)), control_tokens=list(CONTROL_TOKENS))
    known.save(tmp_path / "base")
    problems = [f"Of {number} apples two are red, and {number - 2} are not." for number in range(400)]
    if entry == "pretrain":
        text = tmp_path / "text.txt"
        text.write_text("\n\n".join(problems))
        return partial(
            tune, pretrain.main, PretrainSettings, {**COMMON, **PRETRAIN, "base": tmp_path / "base", "corpus": text}
        )
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"question": one, "answer": one[::-1]}) + "\n" for one in problems))
    return partial(tune, sft.main, SftSettings, {**COMMON, **SFT, "base": tmp_path / "base", "data": chats})


def in_two(tuning: Tuning, folder: Path, logs: Path, **more: Any) -> None:
    """Both processes, which must not have loaded the whole base."""
    statuses = run_ranks(partial(tuning, folder, **more), logs, sharded=True, seconds=120)
    said = "\n".join(path.read_text()[-3000:] for path in sorted(logs.iterdir()))
    assert statuses == [0, 0], said
    assert "whole base" not in said


def figures(folder: Path) -> list[float]:
    return [entry[name] for entry in RunFolder(folder).read_metrics() for name in FIGURES if name in entry]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for path in sorted(folder.glob("*.safetensors")) for name, one in load_file(path).items()}


def test_two_processes_learn_from_slices_what_one_learns(tuning: Tuning, tmp_path: Path):
    alone, spread, logs = tmp_path / "alone", tmp_path / "spread", tmp_path / "logs"
    tuning(alone)
    in_two(tuning, spread, logs)
    assert figures(spread) == pytest.approx(figures(alone), abs=1e-5)
    newest = spread / "checkpoints" / "step_00000004"
    assert sorted(path.name for path in newest.glob("*.safetensors")) == SLICES
    held, whole = (load_newest_checkpoint(folder / "checkpoints")[0].tensors for folder in (spread, alone))
    assert [{name: one.shape for name, one in held[stem].items()} for stem in whole] == [
        {name: one.shape for name, one in tensors.items()} for tensors in whole.values()
    ]
    saved, expected = weights(spread / "final"), weights(alone / "final")
    assert {name: one.shape for name, one in saved.items()} == {name: one.shape for name, one in expected.items()}
    assert all(torch.equal(one, held["trained"][f"model.{name}"]) for name, one in saved.items())  # step 4 is the best
    (model, tokenizer), (theirs, _) = (load_assistant(folder / "final")[:2] for folder in (spread, alone))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-3, rtol=0)
    of_step = weights(run_at(newest) / "final")
    assert all(torch.equal(one, saved[name]) for name, one in of_step.items())
    certificate = read_certificate(spread / "final")
    if certificate is not None:
        assert certificate.weights_after == hash_weights(model, certificate.base_tokens)
    assert tokenizer.get_vocab() == load_assistant(alone / "final")[1].get_vocab()
    assert not (spread / ".trained").exists()
    # In one process, which reads the slices whole; then in two, which read by slices what one saved whole.
    for again, saved_by in ((tuning, spread), (partial(in_two, tuning, logs=tmp_path / "more"), alone)):
        shutil.rmtree(spread / "final")
        shutil.rmtree(spread / "checkpoints" / "step_00000004")
        if saved_by is alone:
            shutil.rmtree(spread / "checkpoints" / "step_00000002")
            shutil.copytree(alone / "checkpoints" / "step_00000002", spread / "checkpoints" / "step_00000002")
        again(spread, resume=True)
        assert figures(spread) == pytest.approx(figures(alone), abs=1e-5)
