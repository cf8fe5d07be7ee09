"""The linear layers that adapters go on: those inside a model's repeated blocks, or a choice of them by name."""

import re
from collections.abc import Sequence

from transformers import PreTrainedModel

from configs import InputError
from tokenizer_ext.held_weights.quantised_layers import linear_layers_of_blocks

ALL_LINEAR = "all-linear"  # peft's word for it


def linear_layer_names(model: PreTrainedModel) -> list[str]:
    """The full names of the linear layers inside a model's repeated blocks, which leaves out the head."""
    return [name for name, _ in linear_layers_of_blocks(model)]


def choose_layers(
    model: PreTrainedModel, wanted: str | Sequence[str] | None = None, blocks: int | Sequence[int] | None = None
) -> list[str]:
    """The full names of the layers that `wanted` means, in the order of the model; None means all of the blocks.

    Args:
        model: A causal model.
        wanted: Ends of layers' names (`c_attn`, `self_attn.q_proj`), full ones, or regular expressions for full names.
        blocks: Numbers of the blocks to stay in; None means all.

    Raises:
        InputError: the model has no linear layer in its blocks, or a name or number means none of them.

    """
    layers = linear_layer_names(model)
    if not layers:
        raise InputError(
            f"{type(model).__name__}: no linear layers in its blocks, expected nn.Linear or Conv1D for LoRA"
        )
    if blocks is not None:
        layers = _within(layers, [blocks] if isinstance(blocks, int) else blocks)
    if wanted in (None, ALL_LINEAR):
        return layers
    chosen: set[str] = set()
    for name in [wanted] if isinstance(wanted, str) else wanted or ():
        found = [layer for layer in layers if _means(name, layer)]
        if not found:
            raise InputError(
                f"target_modules: {name} means no linear layer in the blocks of {type(model).__name__}, expected some "
                f"of {', '.join(short_names(layers))}"
            )
        chosen.update(found)
    if not chosen:
        raise InputError(f"target_modules: names nothing, expected some of {', '.join(short_names(layers))}")
    return [layer for layer in layers if layer in chosen]


def short_names(layers: Sequence[str]) -> list[str]:
    """What layers are called within their block, each once.

    >>> short_names(["transformer.h.0.attn.c_attn", "transformer.h.0.mlp.c_fc", "transformer.h.1.attn.c_attn"])
    ['attn.c_attn', 'mlp.c_fc']
    """
    return list(dict.fromkeys(re.sub(r"^.*?\.\d+\.", "", layer) for layer in layers))


def _within(layers: Sequence[str], blocks: Sequence[int]) -> list[str]:
    numbers = {layer: int(re.search(r"\.(\d+)\.", layer)[1]) for layer in layers}  # type: ignore[index]
    if unknown := sorted(set(blocks) - set(numbers.values())) or not blocks:
        raise InputError(
            f"layers_to_transform: found {unknown if blocks else 'none'}, expected numbers of blocks from 0 to "
            f"{max(numbers.values())}"
        )
    return [layer for layer in layers if numbers[layer] in blocks]


def _means(name: str, layer: str) -> bool:
    if layer == name or layer.endswith(f".{name}"):
        return True
    try:
        return re.fullmatch(name, layer) is not None
    except re.error as error:
        raise InputError(
            f"target_modules: {name} is no regular expression ({error}), expected the end of layers' names"
        ) from None
