"""Models that are only asked, held as they are stored where float32 would hardly fit: the same replies and proofs."""

from pathlib import Path

import pytest
import torch

from finetune.conversations.formats import read_conversations
from finetune.evaluation.one_batch import answer_all
from finetune.export.opened_sides import open_both, open_local
from finetune.lora import held_base
from finetune.lora.base_under_adapter import is_same_model
from finetune.lora.lora import Lora, attach_lora
from finetune.replies.local_side import LocalSide
from finetune.replies.side import asked_as
from finetune.replies.side_settings import SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.extended_models import save_base
from tests.finetune.tiny_models import write_questions
from tokenizer_ext.held_weights.stored_layers import HeldLayer
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture(params=["llama", pytest.param("gpt2", marks=pytest.mark.long)])
def folders(request, tmp_path: Path) -> tuple[str, str]:
    """A base in bfloat16, and an adapter on it that changes what it says."""
    base, adapter = save_base(request.param, tmp_path / "base"), tmp_path / "adapter"
    load_model(str(base), torch.bfloat16).save_pretrained(base)
    adapted = attach_lora(load_model(str(base)), Lora(rank=4, alpha=8.0, dropout=0.0))
    torch.manual_seed(1)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data.normal_(std=0.3)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(adapter)
    load_tokenizer(str(base)).save_pretrained(adapter)
    return str(base), str(adapter)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def is_held(model) -> bool:
    return any(isinstance(module, HeldLayer) for module in model.modules())


def test_large_models_are_asked_as_they_are_stored_and_say_the_same(folders, monkeypatch, capfd):
    wide = [open_local(name) for name in folders]
    assert not any(is_held(side.model) for side in wide) and "stay bfloat16" not in capfd.readouterr().err
    monkeypatch.setattr(held_base, "SHARE_TO_ASK", 0.0)
    held = [open_local(name) for name in folders]
    assert all(is_held(side.model) for side in held) and "stay bfloat16" in capfd.readouterr().err
    for one, other in zip(held, wide, strict=True):
        assert torch.equal(logits(one.model), logits(other.model))
    assert is_same_model(held[0].model, wide[0].model) and not is_same_model(held[1].model, wide[0].model)


def test_both_sides_share_a_base_that_is_held_and_reply_as_in_float32(folders, tmp_path: Path, monkeypatch):
    asked = read_conversations(str(write_questions(tmp_path / "asked.jsonl", 4)))
    wide = answer_all(ways(folders), asked, 6, Sampling(temperature=0))
    monkeypatch.setattr(held_base, "SHARE_TO_ASK", 0.0)
    base, tuned = open_both(folders[0], folders[1], SideSettings())
    assert isinstance(base, LocalSide) and isinstance(tuned, LocalSide)
    assert is_held(tuned.model) and base.model is tuned.model, base.why_apart
    assert answer_all(ways(folders), asked, 6, Sampling(temperature=0)) == wide


def ways(folders):
    sides = open_both(folders[0], folders[1], SideSettings())
    return {name: asked_as(side, "bare") for name, side in zip(("base", "tuned"), sides, strict=True)}
