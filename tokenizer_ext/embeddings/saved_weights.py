"""Whether a folder that was just written holds the model: opened again from the disk and held to what is in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.pages.progress import shown

PROBED_IDS = 16
"""The first ids and the newest ones, so many of each, that logits are compared on."""
LIMIT = 1e-4
"""Of the largest logit: the same weights in the same type give the same logits, or the settings are others."""


@shown("opening the saved folder again")
def reopen(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, logits: bool = True
) -> PreTrainedModel:
    """The model that a folder holds, after names, shapes, types and numbers of its weights were found equal.

    Args:
        folder: What was written, not in its place yet.
        model: What was saved.
        tokenizer: Its tokenizer, of which vocabulary, chat template and special tokens are compared.
        logits: Whether those of both are compared too; not where training left another forward in the one in memory.

    Raises:
        InputError: what was read back is something else.

    """
    found = load_model(str(folder), "auto")
    check_tensors(found.state_dict(), model.state_dict())
    check_config_and_tokenizer(folder, found.config, model, tokenizer)
    if logits:
        _check_logits(found, model)
    return found


def check_config_and_tokenizer(
    folder: Path, config: PreTrainedConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Refuses a written folder whose positions or tokenizer are not those in memory; `config` is read from it.

    Raises:
        InputError: they are not.

    """
    if positions_as_said(config) != positions_as_said(model.config):
        raise InputError("its config has other positions once it is read back, so nothing was kept")
    again = load_tokenizer(str(folder))
    for name in ("chat_template", "eos_token_id", "pad_token_id"):
        if getattr(again, name) != getattr(tokenizer, name):
            raise InputError(f"{name} of the tokenizer is another once it is read back, so nothing was kept")
    if again.get_vocab() != tokenizer.get_vocab():
        raise InputError("the tokenizer has other tokens once it is read back, so nothing was kept")


def positions_as_said(config: PreTrainedConfig) -> tuple[Any, Any]:
    """What a config says of positions: how many there are, and how rotary ones are scaled; None where it does not."""
    of_text = config.get_text_config()
    return getattr(of_text, "max_position_embeddings", None), getattr(of_text, "rope_parameters", None)


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuses tensors that differ from those in memory by a name, a shape, a type or a bit.

    Raises:
        InputError: one does.

    """
    if different := sorted(found.keys() ^ expected.keys()):
        where = "the saved file" if different[0] in found else "memory"
        raise InputError(f"{different[0]} is only in {where} once it is read back, so nothing was kept")
    for name, tensor in expected.items():
        again, kept = found[name].cpu(), tensor.detach().cpu()
        if (again.dtype, again.shape) != (kept.dtype, kept.shape) or not torch.equal(_bits(again), _bits(kept)):
            raise InputError(f"{name} is another once it is read back, so nothing was kept: check the disk, try again")


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@torch.no_grad()
def _check_logits(found: PreTrainedModel, model: PreTrainedModel) -> None:
    rows = model.get_input_embeddings().num_embeddings
    ids = torch.cat([torch.arange(min(PROBED_IDS, rows)), torch.arange(max(rows - PROBED_IDS, 0), rows)]).view(-1, 2)
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    again, kept = (one.to(device)(input_ids=ids.to(device), use_cache=False).logits.float() for one in (found, model))
    model.train(was_training)
    difference = float((again - kept).abs().max())
    if not difference <= LIMIT * max(1.0, float(kept.abs().max())):
        raise InputError(f"its logits differ by {difference:.1e} once it is read back, so nothing was kept")
