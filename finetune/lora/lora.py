"""LoRA on the linear layers of a model's blocks, through peft (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from collections.abc import Sequence
from contextlib import nullcontext

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from configs import InputError
from configs.errors import lacks_memory, on_one_line
from finetune.lora.adapter_shape import Lora
from finetune.lora.changed_base import ChangedBase, copy_endangered, find_changes
from finetune.lora.held_base import widen_what_trains
from finetune.lora.lora_options import check_options
from finetune.lora.target_layers import choose_layers
from tokenizer_ext.embeddings.tables import new_row_parameters
from tokenizer_ext.held_weights.stored_layers import seen_in_single

# What peft raises for a config that it, or a layer, cannot take.
REFUSALS = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError, ImportError)


def check_lora(model: PreTrainedModel, lora: Lora) -> list[str]:
    """The names of the layers that LoRA would adapt; the model stays as it is.

    Raises:
        InputError: no layer is meant, an option cannot be used, or the rank is above what a layer can use.

    """
    options = dict(lora.options)
    names = choose_layers(model, lora.target_modules, options.pop("layers_to_transform", None))
    check_options(options, model, names)
    _check_rank(lora.rank, [_sides(model.get_submodule(name)) for name in names])
    return names


def attach_lora(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """The model with LoRA on linear layers of its blocks; that and separate new rows train, all else is frozen.

    Raises:
        InputError: no layer is meant, an option cannot be used, or the rank is above what a layer can use.

    """
    names = check_lora(model, lora)
    # Of layers that are named in full peft would adapt every one, wherever it stands.
    options = {name: value for name, value in lora.options.items() if name != "layers_to_transform"}
    try:
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=names,
            # Conv1D stores (in, out) where Linear stores (out, in).
            fan_in_fan_out=isinstance(model.get_submodule(names[0]), Conv1D),
            task_type="CAUSAL_LM",
            **options,
        )
        new_rows = list(new_row_parameters(model).values())
        copies = copy_endangered(model, names, config)
        # DoRA alone reads the weights then, for their lengths.
        with nullcontext() if config.use_dora else seen_in_single(model):
            adapted = get_peft_model(model, config)
        adapted.changed_base = find_changes(adapted, copies)
    except REFUSALS as error:
        if isinstance(error, InputError) or lacks_memory(error):
            raise
        reason = on_one_line(error, 200)
        raise InputError(f"lora_options {options}: peft cannot use them ({reason})") from error
    _check_patterns(adapted)
    for rows in new_rows:  # get_peft_model froze them with the rest
        rows.requires_grad_(True)
    widen_what_trains(model)
    return adapted


def changes_to_base(adapted: PeftModel) -> ChangedBase:
    """What the adapter changed of its base, or trains of it."""
    return getattr(adapted, "changed_base", None) or ChangedBase()


def base_is_given_back(adapted: PeftModel) -> bool:
    """Whether the model says what its base says while the adapter is disabled.

    It does not after a start that is taken out of the base's weights (PiSSA, OLoRA), and where biases or rows of tokens
    train beside the adapter.
    """
    return not changes_to_base(adapted) and not new_row_parameters(adapted)


def _sides(layer: nn.Module) -> Sequence[int]:
    """Width of input and output of a linear layer, in either order; a quantised one holds its matrix packed."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer.weight, Tensor)
    return layer.weight.shape


def _check_rank(rank: int, shapes: Sequence[Sequence[int]]) -> None:
    smallest = min(min(shape) for shape in shapes)
    if not 1 <= rank <= smallest:
        raise InputError(f"lora_rank: found {rank}, expected 1 to {smallest}, the smaller side of the smallest layer")


def _check_patterns(adapted: PeftModel) -> None:
    """Refuses ranks of `rank_pattern` that a layer cannot use."""
    for name, layer in adapted.get_base_model().named_modules():
        if isinstance(layer, LoraLayer) and hasattr(layer.get_base_layer(), "weight"):
            rank, smallest = max(layer.r.values()), min(_sides(layer.get_base_layer()))
            if rank > smallest:
                raise InputError(
                    f"lora_options: rank_pattern gives {name} rank {rank}, expected 1 to {smallest}, its smaller side"
                )
