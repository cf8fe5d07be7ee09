"""What attaching an adapter does to the base itself, and how to take it back.

Most adapters leave the base alone. PiSSA (Meng et al. 2024, https://arxiv.org/abs/2404.02948, section 3) and OLoRA take
the adapter's start out of the base's weights: W becomes W - s B0 A0, so that the model says what it said before. A tool
that reads such an adapter back would take its start out once more. So we keep what the weights were, and save the
adapter as the difference that it makes to the original base: a plain LoRA of twice the rank,

    s (B A - B0 A0) = s [B, -B0] [A; A0] = s B' A'

where B' and A' are balanced. The two products are large and nearly equal; left to be subtracted by whoever reads the
adapter, they would cost digits of every activation.

Biases that train (`bias: all`) are kept as well: a base is saved with the bits that it came with.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from configs import InputError
from tokenizer_ext.embeddings.saved_weights import check_tensors

ADAPTER = "default"
HARMLESS_STARTS = (True, False, "gaussian", "orthogonal", "mica")
TOLERANCE = 1e-4  # of the largest weight of a layer; rounding in float32 leaves about 1e-6


@dataclass
class ChangedBase:
    """The base's weights that an adapter changed or trains, as they were, and what the adapter started from."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    """By name in the model without adapters; copies on the CPU."""
    starts: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """A and B of each layer whose weight was changed, by the layer's name."""

    def __bool__(self) -> bool:
        return bool(self.weights)


def copy_endangered(model: nn.Module, layers: Iterable[str], config: LoraConfig) -> dict[str, Tensor]:
    """Copies of the weights that attaching with this config may change, or make trainable.

    A start that is not known to be harmless counts as one that changes the layers: what peft brings next may do so.
    """
    endangered: set[str] = set()
    if config.bias != "none":
        endangered |= {name for name, _ in model.named_parameters() if name.endswith("bias")}
    if config.init_lora_weights not in HARMLESS_STARTS or config.kasa_config is not None:
        endangered |= {f"{layer}.weight" for layer in layers}
    weights = dict(model.named_parameters())
    return {name: weights[name].detach().to("cpu", copy=True) for name in sorted(endangered & weights.keys())}


@torch.no_grad()
def find_changes(adapted: PeftModel, copies: dict[str, Tensor]) -> ChangedBase:
    """What of the copied weights is another now, or trains, with the starts of the adapter.

    Raises:
        InputError: a layer with its adapter is not what it was, so that the adapter would not start from the base.

    """
    changed = ChangedBase()
    for name, before in copies.items():
        owner, _, kind = name.rpartition(".")
        layer = adapted.get_base_model().get_submodule(owner)
        plain = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
        now = getattr(plain, kind)
        if now.requires_grad:
            changed.weights[name] = before
        elif not torch.equal(now.cpu(), before):
            assert isinstance(layer, LoraLayer), f"{name} changed and has no adapter"
            _check_start(owner, layer, now, before)
            changed.weights[name] = before
            matrices = (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight)
            changed.starts[owner] = tuple(matrix.detach().to("cpu", copy=True) for matrix in matrices)
    return changed


def take_out(adapted: PeftModel, changed: ChangedBase) -> nn.Module:
    """The base without the adapter and with the bits that it came with; the adapted model is used up."""
    model = adapted.get_base_model()
    wrapped = {name: part for name, part in model.named_modules() if isinstance(part, ModulesToSaveWrapper)}
    adapted.unload()
    for name, part in wrapped.items():  # peft puts the trained copy in the place of the original
        model.set_submodule(name, part.original_module)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, before in changed.weights.items():
            weights[name].copy_(before)
    return model


def save_as_difference(adapter: Path, changed: ChangedBase) -> None:
    """Rewrites a saved adapter as a plain LoRA on the original base, where it started by changing the base."""
    if not changed.starts:
        return
    tensors = load_file(adapter / "adapter_model.safetensors")
    for layer, (first_a, first_b) in changed.starts.items():
        name_a, name_b = (f"base_model.model.{layer}.lora_{side}.weight" for side in "AB")
        both_a = torch.cat([tensors[name_a], first_a.to(tensors[name_a])])  # (2r, in)
        both_b = torch.cat([tensors[name_b], -first_b.to(tensors[name_b])], dim=1)  # (out, 2r)
        tensors[name_a], tensors[name_b] = balanced(both_a, both_b)
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    check_tensors(load_file(adapter / "adapter_model.safetensors"), tensors)
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # The scale is alpha / rank, or alpha / sqrt(rank) under rsLoRA: it must stay what it was.
    growth = math.sqrt(2) if config["use_rslora"] else 2
    config["init_lora_weights"] = True
    config["r"] *= 2
    config["lora_alpha"] *= growth
    config["rank_pattern"] = {name: rank * 2 for name, rank in config["rank_pattern"].items()}
    config["alpha_pattern"] = {name: alpha * growth for name, alpha in config["alpha_pattern"].items()}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def balanced(matrix_a: Tensor, matrix_b: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices of the same shapes, types and product B A, both of them no larger than the product demands.

    >>> a, b = balanced(torch.tensor([[1e4, 1.0], [1e4, 0.0]]), torch.tensor([[1e4, -1e4]]))
    >>> torch.allclose(b @ a, torch.tensor([[0.0, 1e4]]), atol=1e-6), round(float(a.abs().max()))
    (True, 100)
    """
    shape_a, shape_b = matrix_a.shape, matrix_b.shape
    base_b, core_b = torch.linalg.qr(matrix_b.double())  # (out, k), (k, 2r)
    base_a, core_a = torch.linalg.qr(matrix_a.double().T)  # (in, l), (l, 2r)
    left, sizes, right = torch.linalg.svd(core_b @ core_a.T, full_matrices=False)
    root = sizes.sqrt()
    new_a, new_b = torch.zeros(shape_a), torch.zeros(shape_b)  # a layer narrower than 2r needs fewer rows
    new_a[: len(root)] = (root[:, None] * (right @ base_a.T)).to(new_a)
    new_b[:, : len(root)] = (base_b @ left * root).to(new_b)
    return new_a.to(matrix_a), new_b.to(matrix_b)


def _check_start(name: str, layer: LoraLayer, now: Tensor, before: Tensor) -> None:
    before = before.to(now)
    error = (now + layer.get_delta_weight(ADAPTER).to(now) - before).abs().max() / before.abs().max()
    if not error <= TOLERANCE:
        raise InputError(
            f"lora_options: they change {name} by {float(error):.1g} of its largest weight, expected an adapter that "
            "starts from what the base says: take another init_lora_weights or variant"
        )
