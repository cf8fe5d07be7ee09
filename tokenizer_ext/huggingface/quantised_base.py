"""A base whose weights are quantised, which nothing here can train, extend or merge into, told by its config."""

import json
import re
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from configs import InputError

_METHODS = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "mxfp4": "MXFP4",
    "compressed-tensors": "compressed-tensors",
    "bitsandbytes": "bitsandbytes",
}
_SUFFIX = re.compile(
    r"[-_.](?:gptq|awq|fp8|mxfp4|nvfp4|bnb|unsloth|quantized|dynamic|[wa]\d+|int\d|\d-?bit)(?=[-_.]|$)", re.IGNORECASE
)


def refuse_quantised(name_or_folder: str) -> None:
    """Refuses a base with quantised weights, before anything of it loads.

    Raises:
        InputError: its config says that they are; the message names the method.

    """
    quantisation = _quantisation(name_or_folder)
    if quantisation is None:
        return
    raise InputError(
        f"{name_or_folder}: its weights are quantised ({_describe(quantisation)}), expected plain ones in float32, "
        f"bfloat16 or float16: take the unquantised model that it was made from{_guess(name_or_folder)}"
    )


def _quantisation(name_or_folder: str) -> dict[str, Any] | None:
    """The `quantization_config` of a model's config.json, also of its part for text; None where there is none."""
    path = cached_file(
        name_or_folder,
        "config.json",
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
        found = config.get("quantization_config") or config.get("text_config", {}).get("quantization_config")
    except (OSError, ValueError, AttributeError):  # damaged: whoever loads it says how
        return None
    return found if isinstance(found, dict) else None


def _describe(quantisation: dict[str, Any]) -> str:
    method = str(quantisation.get("quant_method", "an unnamed method"))
    bits = quantisation.get("bits")
    if quantisation.get("load_in_4bit") or quantisation.get("_load_in_4bit"):
        bits = 4
    elif quantisation.get("load_in_8bit") or quantisation.get("_load_in_8bit"):
        bits = 8
    return f"{_METHODS.get(method, method)}{f', {bits} bits' if bits else ''}"


def _guess(name: str) -> str:
    """The name without what says that it is quantised, where it says so."""
    plain = _SUFFIX.sub("", name)
    return f", such as {plain}" if plain not in ("", name) else ""
