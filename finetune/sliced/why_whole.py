"""Why a base cannot be read by slices: what of the settings, or of its weights, needs the whole of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from finetune.lora.tuning_settings import TuningSettings
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.foreign.weight_headers import StoredTensor
from tokenizer_ext.held_weights.stored_layers import is_linear

SLICED_OPTIONS: dict[str, tuple[Any, ...]] = {
    "init_lora_weights": (True, "gaussian"),
    "use_rslora": (True, False),
    "rank_pattern": (),
    "alpha_pattern": (),
    "layers_to_transform": (),
}
"""Options of an adapter that starts without a look at the weights, and adds nothing then; () for any value."""


def why_whole_by_settings(
    settings: TuningSettings, path: Path, *, learns_tokens: bool, has_reference: bool
) -> str | None:
    """What of the settings no slices serve yet; None where all of it is served."""
    reasons: dict[str, Any] = {
        "--method full leaves no base in it for the reference": has_reference and settings.method == "full",
        "an adapter is merged into it first": (path / ADAPTER_CONFIG).is_file(),
        "it gets rows for new tokens": learns_tokens,
        "--merge writes the whole model": settings.merge,
        "its scaled positions are saved with it": bool(settings.rope_scaling),
        "--compile compiles blocks before they are sharded": settings.compile,
        "a rehearsal (--dry_run) measures it": settings.dry_run,
    }
    for name, value in settings.lora_options.items():
        served = SLICED_OPTIONS.get(name)
        reasons[f"lora_options.{name} {value} reads or changes it"] = served is None or (served and value not in served)
    return next((reason for reason, holds in reasons.items() if holds), None)


def why_whole_by_weights(
    model: PreTrainedModel, stored: Mapping[str, StoredTensor], found: Mapping[str, StoredTensor]
) -> str | None:
    """What of the model, or of how its weights are stored, slices cannot serve; None where all is served.

    Args:
        model: Without weights.
        stored: What its files hold, by their names.
        found: What of that each parameter is, by the parameter's name.

    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kept = {name for name in model.state_dict() if name not in parameters}
    twice = [name for name in parameters if name in stored and name not in found]
    lacks = len(found) < len(dict(model.named_parameters()))
    inside = list(model.base_model.modules())
    reasons = {
        f"it keeps {min(kept, default='')}, which is no parameter": bool(kept),
        f"its files hold {min(twice, default='')}, which it shares with another weight": bool(twice),
        "transformers puts its stored weights together anew": lacks and _is_converted(model),
        "it has no list of blocks": not any(isinstance(module, nn.ModuleList) for module in inside),
        "its head is no linear layer": not is_linear(model.get_output_embeddings()),
        "its embedding stands outside of its blocks": not any(one is model.get_input_embeddings() for one in inside),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _is_converted(model: PreTrainedModel) -> bool:
    return bool(get_model_conversion_mapping(model, add_legacy=False))
