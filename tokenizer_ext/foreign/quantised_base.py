"""A base whose weights are quantised, which nothing here can train, extend or merge into, told by config and weights.

A config that lost its `quantization_config` would have the library read what stands for other numbers as the numbers.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs import InputError
from tokenizer_ext.foreign.weight_headers import StoredTensor

_METHODS = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "mxfp4": "MXFP4",
    "compressed-tensors": "compressed-tensors",
    "bitsandbytes": "bitsandbytes",
}
_FIELDS = ("quantization_config", "compression_config")
_SUFFIX = re.compile(
    r"[-_.](?:gptq|awq|fp8|mxfp4|nvfp4|bnb|unsloth|quantized|dynamic|[wa]\d+|int\d|\d-?bit)(?=[-_.]|$)", re.IGNORECASE
)
_PART = re.compile(
    r"\.(?:qweight|qzeros|g_idx|SCB|weight_packed|weight_scale(?:_inv|_2)?|weight_zero_point)$"
    r"|\.weight\.(?:absmax|quant_map|nested_absmax|quant_state\.)"
)
"""Tensors that only a quantised layer has beside its numbers, or in their place."""
_NO_NUMBERS = ("F8_", "F6_", "F4")
_WHOLE = ("I8", "U8", "I16", "U16", "I32", "I64")


def refuse_quantised(name: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses a base with quantised weights, before anything of it loads; `name` is what the user called it.

    Raises:
        InputError: its config, or that of its part for text, says that they are; the message names the method.

    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for field in _FIELDS:
            if part.get(field) is not None:
                raise _refusal(name, _describe(part[field]))
    if (folder / "hf_quant_config.json").is_file():
        raise _refusal(name, "ModelOpt, by hf_quant_config.json")


def refuse_quantised_tensors(name: str, tensors: Mapping[str, StoredTensor]) -> None:
    """Refuses a base among whose weights are those of quantised layers, whatever its config says.

    Raises:
        InputError: there are; the message names one.

    """
    for tensor_name, tensor in tensors.items():
        is_whole = tensor.type in _WHOLE and tensor_name.endswith((".weight", "_blocks", "_scales"))
        if is_whole or tensor.type.startswith(_NO_NUMBERS) or _PART.search(tensor_name):
            raise _refusal(name, f"{tensor_name} of type {tensor.type}, of which its config says nothing")


def _refusal(name: str, found: str) -> InputError:
    return InputError(
        f"{name}: its weights are quantised ({found}), expected plain ones in float32, "
        f"bfloat16 or float16: take the unquantised model that it was made from{_guess(name)}"
    )


def _describe(quantisation: Any) -> str:
    if not isinstance(quantisation, Mapping):
        return f"by {str(quantisation)[:60]!r}"
    method = str(quantisation.get("quant_method", "an unnamed method"))[:60]
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
