"""A base read by slices in two processes against the same base read whole: what each holds, and what both compute."""

from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.decoding.decoders import is_spread
from finetune.export.base_on_disk import stored_type
from finetune.lora.lora import attach_lora
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.replies.generation import generate_ids
from finetune.sliced.leaving import leave_slices
from finetune.sliced.sliced_base import open_sliced, train_in_slices
from finetune.supervised.settings import SftSettings
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.sharding import is_empty
from tests.finetune.extended_models import save_base
from tests.reliability.forked_ranks import WORLD_SIZE, run_ranks
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer


@pytest.fixture(
    params=[
        pytest.param("gpt2", marks=pytest.mark.long),
        "llama",
        pytest.param("llama in half", marks=pytest.mark.long),
    ]
)
def base(request, tmp_path: Path) -> Path:
    """One that knows the control tokens, so that none of its rows is new."""
    plain = str(save_base(request.param.split()[0], tmp_path / "plain"))
    model = load_model(plain, torch.bfloat16 if "half" in request.param else torch.float32)
    known = extend_vocabulary((model, load_tokenizer(plain)), control_tokens=list(CONTROL_TOKENS))
    return known.save(tmp_path / "base")


def compare(base: Path, rank: int) -> None:
    """What fails here fails the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator("fp32")
    settings = SftSettings(base=str(base), data="unread.jsonl", lora_rank=4)
    torch.manual_seed(0)
    opened = open_sliced(settings.base, settings, accelerator, settings.chat)
    assert opened is not None and all(is_empty(one) for one in opened.model.parameters())
    trainable, sliced = train_in_slices(opened, settings, accelerator)
    model, whole = trainable.model, load_model(str(base))
    frozen = {name: one for name, one in model.named_parameters() if not one.requires_grad}
    held = sum(one.to_local().numel() for one in frozen.values())
    assert all(isinstance(one, DTensor) for one in model.parameters())
    rows = len(frozen)  # slices of an uneven number of rows differ by one
    assert held <= whole.num_parameters() / WORLD_SIZE + rows * 64
    matrices = {one.dtype for one in frozen.values() if one.ndim > 1}
    assert matrices == {torch.float32 if stored_type(base) == torch.float32 else torch.bfloat16}
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, whole(input_ids=ids).logits, atol=1e-5, rtol=0)
    ask = partial(generate_ids, max_new_tokens=5, stop_ids=[], sampling=Sampling(temperature=0))
    assert is_spread(model) and ask(model, [[5, 6, 7], [9]]) == ask(whole, [[5, 6, 7], [9]])
    assert all(isinstance(one, DTensor) for one in model.parameters()), "whole after it was asked"
    first = opened.plan.first_new_id
    assert trainable.extended.certificate.weights_before == hash_weights(whole, first)
    adapters = {name: one.full_tensor() for name, one in model.named_parameters() if one.requires_grad}
    torch.manual_seed(0)
    assert settings.lora is not None
    attach_lora(whole, settings.lora)
    assert all(torch.equal(one, adapters[name]) for name, one in whole.named_parameters() if one.requires_grad)
    leave_slices(trainable, sliced, RunFolder(base), accelerator)
    assert not is_spread(model)
    assert all(is_empty(one) != one.requires_grad for one in model.parameters())
    tune_all(base, load_model(str(base)), accelerator)
    torch.distributed.destroy_process_group()


def tune_all(base: Path, whole: PreTrainedModel, accelerator: Accelerator) -> None:
    """Every weight trains: gradients against those of the whole, with other tokens in each process."""
    settings = SftSettings(base=str(base), data="unread.jsonl", method="full")
    opened = open_sliced(settings.base, settings, accelerator, settings.chat)
    assert opened is not None
    trainable, sliced = train_in_slices(opened, settings, accelerator)
    model = trainable.model
    assert all(one.requires_grad and one.dtype == torch.float32 for one in model.parameters())
    ids = torch.tensor([[5, 6, 7, 8, 9]]) + torch.arange(WORLD_SIZE)[:, None]
    targets = torch.tensor([[6, 7, 8, 9, -100]]).expand(WORLD_SIZE, -1)
    SupervisedLoss(whole.train())(ids, targets).backward()
    mine = slice(accelerator.process_index, accelerator.process_index + 1)
    SupervisedLoss(model.train())(ids[mine], targets[mine]).backward()
    gradients = {name: one.grad for name, one in whole.named_parameters()}
    for name, parameter in model.named_parameters():
        ours = parameter.grad.full_tensor() * WORLD_SIZE  # the mean over processes
        torch.testing.assert_close(ours, gradients[name], atol=1e-5, rtol=1e-4)
    sliced.leave()


def test_two_processes_compute_from_slices_what_one_computes_from_the_whole(base: Path, tmp_path: Path):
    statuses = run_ranks(partial(compare, base), tmp_path / "logs", sharded=True, seconds=90)
    assert statuses == [0, 0], [path.read_text()[-3000:] for path in sorted((tmp_path / "logs").iterdir())]
