"""What lies under the adapters of a model, held to another model or its folder: bit for bit the same, or not.

Names prove nothing: an adapter may name its base by another path, train biases or whole modules of it, or start by
changing it. So every weight in memory is compared with the one that the folder holds.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from tokenizer_ext.held_weights.stored_layers import HALF
from tokenizer_ext.pages.progress import shown

NOT_COMPUTED = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
"""Fields of a config by which no logit changes; nor by those that name ids."""


def has_adapters(model: nn.Module) -> bool:
    """Whether a model has adapters inside of its layers."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@shown("comparing the base with the one under the adapter")
def difference_below(model: PreTrainedModel, folder: Path) -> str:
    """Why a model without its adapters is not the one in a folder; empty where bit for bit it is."""
    for name, module in model.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            return f"the adapter trains {name} beside its low-rank matrices"
    here, there = model.config.to_dict(), AutoConfig.from_pretrained(folder).to_dict()
    for field in sorted(here.keys() | there.keys()):
        if _is_computed(field) and here.get(field) != there.get(field):
            return f"its config has {field} {there.get(field)}, the model under the adapter {here.get(field)}"
    stored = {key: path for path in sorted(folder.glob("*.safetensors")) for key in _keys(path)}
    for name, weight in _base_weights(model):
        short = name.removeprefix(f"{model.base_model_prefix}.")  # as GPT-2's first folders name them
        key = name if name in stored else short
        if key not in stored:
            return f"its folder holds no {name}"
        with safe_open(stored[key], framework="pt") as file:
            there = file.get_tensor(key)
        if there.shape != weight.shape or not torch.equal(there.to(weight.dtype), weight.cpu()):
            return f"{name} is another under the adapter"
    return ""


def is_same_model(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Whether two models in memory are bit for bit the same: class, config, names and numbers of all weights.

    A matrix in half precision is the one in float32 that it was read from, or is cast to.
    """
    if one is other:
        return True
    configs = [
        {field: value for field, value in model.config.to_dict().items() if _is_computed(field)}
        for model in (one, other)
    ]
    weights = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in (one, other)]
    if type(one) is not type(other) or configs[0] != configs[1] or weights[0].keys() != weights[1].keys():
        return False
    pairs = [(weight, weights[1][name]) for name, weight in weights[0].items()]
    return all(mine.device == theirs.device and _is_equal(mine, theirs) for mine, theirs in pairs)


def _is_equal(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype and {one.dtype, other.dtype} <= {torch.float32, *HALF}:
        one, other = one.float(), other.float()
    return one.dtype == other.dtype and torch.equal(one, other)


def strip_lora(model: PreTrainedModel) -> None:
    """Puts linear layers back in the place of those with LoRA on them, but for that of the head."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear) and module is not model.get_output_embeddings():
            model.set_submodule(name, module.get_base_layer())


def _base_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that are no adapter's, by their names in the model without adapters."""
    kinds = {kind for one in model.modules() if isinstance(one, BaseTunerLayer) for kind in one.adapter_layer_names}
    for name, weight in model.named_parameters():
        if kinds.isdisjoint(name.split(".")):
            yield name.replace(".base_layer.", "."), weight.detach()


def _is_computed(field: str) -> bool:
    return field not in NOT_COMPUTED and not field.endswith("token_id")


def _keys(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())
