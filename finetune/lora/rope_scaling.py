"""Rotary positions scaled, so that a base reads rows longer than it was trained on; its weights stay as they are.

The config says it, as transformers' own models have it, so a saved model is opened by any tool. Chen et al. 2023
(https://arxiv.org/abs/2306.15595) divide positions by the factor (`linear`); Peng et al. 2023
(https://arxiv.org/abs/2309.00071) do so for slow dimensions alone and sharpen attention (`yarn`), as Llama 3.1 does in
its own way (`llama3`). Models that attend within a window in some layers are scaled in the others alone.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from configs import InputError
from configs.errors import on_one_line
from tokenizer_ext.huggingface.hf_model import positions_of

GLOBAL_LAYERS = "full_attention"
NEEDS_ORIGINAL = ("yarn", "llama3")
VALIDATOR = "transformers.modeling_rope_utils"


def scale_rope(model: PreTrainedModel, given: Mapping[str, Any]) -> PreTrainedModel:
    """The model, whose config and rotary layers are changed in place; without a scaling it stays as it is.

    Args:
        model: As it was read.
        given: What `check_rope_scaling` lets pass; its factor multiplies the positions of the config.

    Raises:
        InputError: the model's family knows no such scaling, or the model is scaled already.

    """
    if not given:
        return model
    config, positions = model.config.get_text_config(), positions_of(model)
    own = _own_parameters(config)
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "rope_type")}
    if own is None or not layers or positions is None:
        raise InputError(
            f"rope_scaling: {_family(model)} has no rotary positions that its config scales (learned ones end where "
            "they end): leave it out, or take another base"
        )
    if own.get("rope_type", "default") != "default":
        raise InputError(
            f"rope_scaling: {_family(model)} is scaled already ({own['rope_type']}, {positions:,} positions): leave it "
            "out, or start from the base as it was before"
        )
    wanted = {**own, **given}
    if given["rope_type"] in NEEDS_ORIGINAL:
        wanted["original_max_position_embeddings"] = positions
    _write(config, wanted, round(positions * given["factor"]))
    before = _angles(model)
    for name, layer in layers.items():
        model.set_submodule(name, _made_anew(layer, model))
    if all(torch.equal(before[name], angles) for name, angles in _angles(model).items()):
        raise InputError(f"rope_scaling: {_family(model)} does not heed {given['rope_type']}: leave it out")
    return model


def _own_parameters(config: PreTrainedConfig) -> dict[str, Any] | None:
    """The rotary parameters that are to be scaled: all, or of the layers that see the whole row."""
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, dict) or not parameters:
        return None
    nested = config.nested_rope_parameter_keys(parameters)
    found = parameters.get(GLOBAL_LAYERS) if nested else parameters
    return dict(found) if isinstance(found, dict) else None


def _write(config: PreTrainedConfig, wanted: dict[str, Any], positions: int) -> None:
    parameters = config.rope_parameters
    nested = config.nested_rope_parameter_keys(parameters)
    config.max_position_embeddings = positions
    config.rope_parameters = {**parameters, GLOBAL_LAYERS: wanted} if nested else wanted
    with _objections() as said:
        try:
            config.validate_rope()
        except (KeyError, ValueError, TypeError) as error:
            said.append(on_one_line(error, 200))
    if said:
        raise InputError(f"rope_scaling: transformers objects ({said[0]}): mend it, or leave it out")


def _made_anew(layer: nn.Module, model: PreTrainedModel) -> nn.Module:
    """A rotary layer by what the config says now; it holds no weights."""
    try:
        anew = type(layer)(model.config.get_text_config())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"rope_scaling: {_family(model)} does not know it ({on_one_line(error, 200)})") from error
    return anew.to(model.device).train(layer.training)


def _angles(model: nn.Module) -> dict[str, torch.Tensor]:
    """What each rotary layer turns by, times what it scales the result by."""
    found = {}
    for name, layer in model.named_modules():
        for part, buffer in layer.named_buffers(recurse=False) if hasattr(layer, "rope_type") else ():
            found[f"{name}.{part}"] = buffer.detach().clone()
    return found


@contextmanager
def _objections() -> Iterator[list[str]]:
    """What transformers only warns of while it looks at the parameters."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(" ".join(record.getMessage().split())[:200])

    listener, logger = Listener(logging.WARNING), logging.getLogger(VALIDATOR)
    before = logger.level
    logger.setLevel(logging.WARNING)  # a run has transformers say its errors alone
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before)


def _family(model: PreTrainedModel) -> str:
    return f"the base ({model.config.get_text_config().model_type})"
