"""What may be said of an adapter beyond rank, scale and dropout: any field of peft's `LoraConfig`, by its name there.

So a variant that peft brings tomorrow can be used tomorrow. Refused is what peft would take and not do: a name that it
does not know, a start that needs a pass over the data first, a table of tokens that the loss and the export would miss.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from configs import InputError
from finetune.lora.target_layers import short_names

OURS = {
    "r": "lora_rank",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "target_modules",
}
"""Fields that have a setting of their own."""
FIXED = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "fan_in_fan_out", "runtime_config"),
}
"""Fields that follow from the model and the task."""
TABLES = "rows of tokens train as new tokens, or with --method full"
REFUSED = {
    "layer_replication": "it makes another model of the base, which a base beside its adapter cannot be",
    "alora_invocation_tokens": "the loss does not tell peft where they stand, and such an adapter cannot be merged",
    "arrow_config": "it routes between adapters that are trained already",
    "monteclora_config": "its loss has a term that training here lacks",
    "use_qalora": "peft does it for GPTQ bases alone, and passes over it elsewhere",
    "qalora_group_size": "peft does it for GPTQ bases alone, and passes over it elsewhere",
    "megatron_config": "it is for layers of Megatron, which no base here has",
    "megatron_core": "it is for layers of Megatron, which no base here has",
    "layers_pattern": "the blocks are found by themselves",
    "trainable_token_indices": TABLES,
    "ensure_weight_tying": TABLES,
}
REFUSED_STARTS = {
    "eva": "without a pass over the data first, peft starts it as plain LoRA",
    "lora_ga": "without gradients taken first, peft starts it as plain LoRA",
    "corda": "it needs covariances of the data, taken first",
    "loftq": "it quantises the base, which could not be given back",
}
STARTS = "true, gaussian, orthogonal, mica, olora, pissa, pissa_niter_16"


def check_options(options: Mapping[str, Any], model: PreTrainedModel, layers: Sequence[str]) -> None:
    """Refuses options that peft does not know, or would take and not do as they say, with adapters on these layers.

    Raises:
        InputError: one of them.

    """
    for name, value in options.items():
        _check_name(name)
        _check_bool(name, value)
    start = options.get("init_lora_weights", True)
    if isinstance(start, str) and start in REFUSED_STARTS:
        raise InputError(
            f"lora_options: init_lora_weights is {start!r}: {REFUSED_STARTS[start]}; expected one of {STARTS}"
        )
    _check_saved_modules(options.get("modules_to_save") or (), model)
    head = model.get_output_embeddings()
    if options.get("bias") == "all" and any("bias" in name for name, _ in head.named_parameters()):
        raise InputError(f"lora_options: bias is 'all', which the head has too: {TABLES}; pass lora_only")
    for name in ("rank_pattern", "alpha_pattern"):
        if not isinstance(options.get(name, {}), Mapping):
            raise InputError(f"lora_options: {name} is {options[name]!r}, expected a mapping such as {{c_attn: 4}}")
    for name in ("rank_pattern", "alpha_pattern", "exclude_modules"):
        _check_means_a_layer(name, options.get(name) or (), layers)


def _check_name(name: str) -> None:
    known = {field.name for field in dataclasses.fields(LoraConfig)} - FIXED
    if name in OURS:
        raise InputError(f"lora_options: {name} has a setting of its own, pass --{OURS[name]}")
    if name in FIXED:
        raise InputError(f"lora_options: {name} follows from the model, leave it out")
    if name in REFUSED:
        raise InputError(f"lora_options: {name} cannot be used here: {REFUSED[name]}")
    if name not in known:
        nearest = difflib.get_close_matches(name, sorted(known - set(OURS) - set(REFUSED)), n=1, cutoff=0.0)[0]
        raise InputError(f"lora_options: {name}: peft's LoraConfig has no such field, did you mean {nearest}?")


def _check_bool(name: str, value: Any) -> None:
    # peft reads any text as true, "false" too.
    field = next(field for field in dataclasses.fields(LoraConfig) if field.name == name)
    if isinstance(field.default, bool) and name != "init_lora_weights" and not isinstance(value, bool):
        raise InputError(f"lora_options: {name} is {value!r}, expected true or false")


def _check_saved_modules(names: Any, model: PreTrainedModel) -> None:
    names = [names] if isinstance(names, str) else list(names)
    tables: list[nn.Module] = [model.get_input_embeddings(), model.get_output_embeddings()]
    for wanted in names:
        found = [module for name, module in model.named_modules() if name == wanted or name.endswith(f".{wanted}")]
        if not found:
            raise InputError(
                f"lora_options: modules_to_save names {wanted}, which {type(model).__name__} does not have, expected "
                f"the name of a module such as {_last_module(model)}"
            )
        if any(part in tables for module in found for part in module.modules()):
            raise InputError(f"lora_options: modules_to_save names {wanted}, a table of tokens: {TABLES}")


def _check_means_a_layer(name: str, patterns: Any, layers: Sequence[str]) -> None:
    # As peft matches them; what matches nothing it passes over, with a warning at most.
    before = "" if isinstance(patterns, str) else r"(.*\.)?"  # one text is a pattern for whole names
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not any(re.fullmatch(rf"{before}({pattern})", layer) for layer in layers):
            raise InputError(
                f"lora_options: {name} names {pattern}, which no adapted layer is called, expected some of "
                f"{', '.join(short_names(layers))}"
            )


def _last_module(model: PreTrainedModel) -> str:
    return [name for name, _ in model.base_model.named_modules() if name][-1].rpartition(".")[2]
