"""The engine: how a model computes while it is tuned, without a change in what it computes.

It chooses the precision by measuring, exchanges slow layers for lean ones, lays conversations end to end where that is
exact, and turns on gradient checkpointing and compilation where asked. `release` puts the model back as it was.
"""

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import PreTrainedModel

from finetune.engine.freed_memory import keep_freed_memory, return_freed_memory
from finetune.engine.fused_layers import SwappedForwards, swap_activations, swap_dropout, swap_frozen_linears
from finetune.engine.packed_attention import use_packed_attention, use_usual_attention
from finetune.engine.padding_free import use_flat_attention
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.precision import Precision, Probe, expect_precision, probe_precision
from scratch_models.loop.run_folder import RunFolder, read_run_record
from scratch_models.loop.sharding import wants_sharding

_engines: WeakKeyDictionary[nn.Module, "Engine"] = WeakKeyDictionary()


@dataclass
class Engine:
    """What is in force on a model."""

    model: PreTrainedModel
    precision: Precision
    """What matrix products are computed in; what trains stays in single precision."""
    probe: Probe | None
    """What was measured to choose the precision; None where it was given."""
    lays_flat: bool = False
    """Whether rows of a micro-batch are laid end to end, without filling."""
    checkpoints_gradients: bool = False
    compiled_blocks: int = 0
    swapped: SwappedForwards = field(default_factory=SwappedForwards)
    attention_before: str | None = None
    """The attention that the model had, where the engine may have given it another."""

    def facts(self) -> dict[str, Any]:
        """What `run.json` says of it; `precision` is what a resumed run goes on with."""
        return {
            "precision": self.precision,
            "probe": None if self.probe is None else dataclasses.asdict(self.probe),
            "exchanged_layers": self.swapped.counts(),
            "rows_laid_end_to_end": self.lays_flat,
            "gradient_checkpointing": self.checkpoints_gradients,
            "compiled_blocks": self.compiled_blocks,
        }

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that the model computes its loss in."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)

    def release(self) -> None:
        """The model computes as it did before, with the same weights bit for bit; what was trained stays."""
        self.swapped.undo()
        if self.attention_before is not None:
            self.model.set_attn_implementation(self.attention_before)
        if self.checkpoints_gradients:
            self.model.gradient_checkpointing_disable()
        for module in self.model.modules():
            module._compiled_call_impl = None
        self.lays_flat, self.checkpoints_gradients, self.compiled_blocks = False, False, 0
        _engines.pop(self.model, None)
        return_freed_memory()


def start_engine(
    model: PreTrainedModel, settings: LoopSettings, accelerator: Accelerator, *, precision: str | None = None
) -> Engine:
    """Turns on what makes the model's training fast; it must be on its device, with its adapters attached.

    Args:
        model: The causal model, adapters inside it.
        settings: Precision, compilation and gradient checkpointing.
        accelerator: Of this process; all processes choose what the main one measured.
        precision: fp32 or bf16, as the run that is resumed recorded it.

    Raises:
        InputError: bf16 is asked for on a device that lacks it.

    """
    chosen, probe = _choose_precision(model, settings.precision if precision is None else precision, accelerator)
    engine = Engine(model, chosen, probe)
    if not wants_sharding(accelerator):  # a shard is no weight: only the layers' own forward finds it whole
        _exchange_layers(engine, compiled=settings.compile)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        engine.checkpoints_gradients = True
    if settings.compile:
        engine.compiled_blocks = _compile_blocks(model)
    _engines[model] = engine
    return engine


def engine_of(model: nn.Module) -> Engine | None:
    """The engine that is on, or None."""
    return _engines.get(model)


def _choose_precision(model: PreTrainedModel, wanted: str, accelerator: Accelerator) -> tuple[Precision, Probe | None]:
    expect_precision(cast(Any, wanted), model.device)
    if wanted != "auto":
        return cast(Precision, wanted), None
    probe = probe_precision(model.device, model.config.get_text_config().hidden_size)
    probe = broadcast_object_list([probe])[0]
    return probe.faster, probe


def _exchange_layers(engine: Engine, *, compiled: bool) -> None:
    model = engine.model
    dtype = torch.bfloat16 if engine.precision == "bf16" else next(model.parameters()).dtype
    if model.device.type == "cpu" and not compiled:
        keep_freed_memory()
        engine.attention_before = model.config._attn_implementation
        engine.lays_flat = use_flat_attention(model)
        swap_dropout(model, engine.swapped)
    swap_activations(model, engine.swapped)
    swap_frozen_linears(model, dtype, engine.swapped)


def _compile_blocks(model: PreTrainedModel) -> int:
    stacks = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for block in max(stacks, key=len)] if stacks else []
    for block in blocks:
        block.compile(dynamic=True)
    return len(blocks)


@dataclass(frozen=True)
class Computing:
    """What is in force on a model."""

    engine: Engine
    packed: bool
    """Whether conversations come packed."""
    packed_attention: bool
    """Whether they are kept apart by an attention of ours; else transformers keeps them apart with a mask."""

    def facts(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {"engine": self.engine.facts(), "packed": self.packed, "packed_attention": self.packed_attention}

    def release(self) -> None:
        """The model computes as it did before, with the same weights bit for bit; what was trained stays."""
        self.engine.release()
        use_usual_attention(self.engine.model)


def start_computing(
    model: PreTrainedModel, settings: LoopSettings, accelerator: Accelerator, run: RunFolder, *, packed: bool = False
) -> Computing:
    """Turns on what makes the training of a model fast; it is on its device, with its adapters attached.

    Raises:
        InputError: the device lacks the precision.

    """
    engine = start_engine(model, settings, accelerator, precision=recorded_precision(settings, run))
    # Rows that the engine lays end to end are kept apart there, packed or not.
    return Computing(engine, packed, engine.lays_flat or (packed and use_packed_attention(model)))


def recorded_precision(settings: LoopSettings, run: RunFolder) -> str | None:
    """What a run that is resumed was started with: a probe might choose otherwise today."""
    return read_run_record(run.path).get("engine", {}).get("precision") if settings.resume else None


def describe_engine(engine: Engine) -> str:
    """How the model was computed, in one line."""
    probe, measured = engine.probe, ""
    if probe is not None:
        bf16 = "none" if probe.bf16_gflops is None else f"{probe.bf16_gflops:,.0f}"
        measured = f", chosen by measuring: fp32 {probe.fp32_gflops:,.0f} GFLOP/s, bf16 {bf16}"
    return f"computes in {engine.precision}{measured}"
