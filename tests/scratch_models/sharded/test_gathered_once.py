"""How much of a base that is read by slices is whole at once while a step is computed, counted in two processes."""

from functools import partial
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.sliced.sliced_base import leave_slices, open_sliced, train_in_slices
from finetune.supervised.settings import SftSettings
from scratch_models.loop.devices import make_accelerator
from scratch_models.sharded.gathered_once import ReleasedAllGather
from tests.finetune.extended_models import save_base
from tests.reliability.forked_ranks import run_ranks
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer


def count_whole(base: Path, rank: int) -> None:
    """What fails here fails the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator("fp32")
    settings = SftSettings(base=str(base), data="unread.jsonl", lora_rank=4)
    opened = open_sliced(settings.base, settings, accelerator, settings.chat)
    assert opened is not None
    trainable, sliced = train_in_slices(opened, settings, accelerator)
    model = trainable.model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and not module.weight.requires_grad]
    layers = [layer for layer in layers if layer is not model.get_output_embeddings()]
    whole: list[int] = []

    def note(*_: object) -> None:
        whole.append(sum(not isinstance(layer.weight, DTensor) for layer in layers))

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    hidden: Tensor = model.base_model(input_ids=ids).last_hidden_state
    hidden.square().mean().backward()
    assert len(whole) == 2 * len(layers) > 10, "once forward, once more for the gradients"
    assert set(whole) == {1}
    assert all(isinstance(one.grad, DTensor) for one in model.parameters() if one.requires_grad)
    for handle in handles:
        handle.remove()
    leave_slices(trainable, sliced, accelerator)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    torch.distributed.destroy_process_group()


def test_one_matrix_is_whole_at_a_time_also_when_a_block_is_computed_once_more(tmp_path: Path):
    plain = str(save_base("llama", tmp_path / "plain"))
    known = extend_vocabulary((load_model(plain), load_tokenizer(plain)), control_tokens=list(CONTROL_TOKENS))
    base = known.save(tmp_path / "base")
    statuses = run_ranks(partial(count_whole, base), tmp_path / "logs", sharded=True, seconds=90)
    assert statuses == [0, 0], [path.read_text()[-3000:] for path in sorted((tmp_path / "logs").iterdir())]


def test_memory_that_was_gathered_into_is_given_back_though_it_is_referred_to():
    gather = ReleasedAllGather()
    kept = gather.allocate((10,), dtype=torch.float32, device=torch.device("cpu"))
    assert kept.untyped_storage().nbytes() == 40
    gather.allocate((5,), dtype=torch.float32, device=torch.device("cpu"))
    assert kept.untyped_storage().nbytes() == 0
