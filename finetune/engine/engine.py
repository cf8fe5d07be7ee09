"""The engine: how a model computes while it trains, without a change in what it computes.

It chooses the precision by measuring, exchanges slow layers for fused ones, keeps packed conversations apart where that
is exact, and turns on gradient checkpointing and compilation where asked. `release` puts the model back as it was.
"""

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import PreTrainedModel

from configs import InputError
from finetune.engine.freed_memory import keep_freed_memory, keep_no_freed_memory, return_freed_memory
from finetune.engine.fused_layers import SwappedForwards, swap_activations, swap_dropout, swap_frozen_linears
from finetune.engine.llama_layers import swap_llama_layers
from finetune.engine.packed_attention import use_packed_attention, use_usual_attention
from finetune.engine.padding_free import packing_is_exact, prefix_sharing_is_exact
from scratch_models.launch.compilation import expect_compiler
from scratch_models.launch.launch_request import launched_precision
from scratch_models.loop.loop_settings import RunSettings
from scratch_models.loop.precision import Precision, Probe, expect_precision, probe_precision
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.sharding import wants_sharding
from tokenizer_ext.held_weights.quantised_layers import describe_held, held_bits
from tokenizer_ext.held_weights.stored_layers import computes_in
from tokenizer_ext.pages.progress import shown

Packing = Literal["auto", "never", "always"]
MOST_PACKED_TOKENS_ON_A_CPU = 1024
"""Tokens of a packed micro-batch there: more at once are no faster on two cores, and take more memory."""


@dataclass
class Engine:
    """What is in force on a model."""

    model: PreTrainedModel
    precision: Precision
    """What matrix products are computed in; what trains stays in single precision."""
    probe: Probe | None
    """What was measured to choose the precision; None where it was given."""
    packs: bool = False
    """Whether conversations are to come packed in rows; else each has a row, filled up on the right."""
    packed_attention: bool = False
    """Whether an attention of ours keeps packed conversations apart; else transformers does, with a mask of T x T."""
    can_pack: bool = True
    """Whether packed rows give this model's hidden states, one way or the other; not measured where none are wanted."""
    shares_prefixes: bool = False
    """Whether the tokens that all conversations of a packed row begin with stand in it once."""
    checkpoints_gradients: bool = False
    compiled_blocks: int = 0
    swapped: SwappedForwards = field(default_factory=SwappedForwards)

    def facts(self) -> dict[str, Any]:
        """What `run.json` says of it; `precision` is what a resumed run goes on with."""
        return {
            "engine": {
                "precision": self.precision,
                "probe": None if self.probe is None else dataclasses.asdict(self.probe),
                "exchanged_layers": self.swapped.counts(),
                "rows_laid_end_to_end": self.packs,
                "shared_prefixes": self.shares_prefixes,
                "gradient_checkpointing": self.checkpoints_gradients,
                "compiled_blocks": self.compiled_blocks,
            },
            "packed": self.packs,
            "packed_attention": self.packed_attention,
        }

    def describe(self) -> str:
        """How the model computes, in one line.

        >>> model: Any = nn.Linear(1, 1)
        >>> Engine(model, "fp32", None, packs=True, packed_attention=True).describe()
        'computes in fp32, conversations packed'
        """
        probe, measured = self.probe, ""
        if probe is not None:
            bf16 = "none" if probe.bf16_gflops is None else f"{probe.bf16_gflops:,.0f}"
            measured = f", chosen by measuring: fp32 {probe.fp32_gflops:,.0f} GFLOP/s, bf16 {bf16}"
        held = describe_held(self.model)
        return f"computes in {self.precision}{measured}, {self._describe_rows()}{', ' if held else ''}{held}"

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that the model computes its loss in."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)

    def tokens_at_once(self, limit: int) -> int:
        """The tokens of a micro-batch where a run allows at most `limit`."""
        return min(limit, MOST_PACKED_TOKENS_ON_A_CPU) if self.packs and self.model.device.type == "cpu" else limit

    def release(self) -> None:
        """The model computes as it did before, with the same weights bit for bit; what was trained stays."""
        self.swapped.undo()
        use_usual_attention(self.model)
        if self.checkpoints_gradients:
            self.model.gradient_checkpointing_disable()
        for module in self.model.modules():
            module._compiled_call_impl = None
        self.checkpoints_gradients, self.compiled_blocks = False, 0
        return_freed_memory()

    def _describe_rows(self) -> str:
        if not self.can_pack:
            return "a row for each conversation: packed rows would not give this model's hidden states"
        if not self.packs:
            return "a row for each conversation"
        return "conversations packed" + ("" if self.packed_attention else " under a mask of all places")


@shown("looking how the model computes best")
def start_engine(
    model: PreTrainedModel,
    settings: RunSettings,
    accelerator: Accelerator,
    *,
    run: RunFolder | None = None,
    precision: str | None = None,
    packing: Packing = "auto",
) -> Engine:
    """Turns on what makes the model's training fast; it must be on its device, with its adapters attached.

    Args:
        model: The causal model, adapters inside it.
        settings: Precision, compilation and gradient checkpointing.
        accelerator: Of this process; all processes choose what the main one measured.
        run: The folder of the run; one that is resumed goes on in the precision that it was started in.
        precision: fp32 or bf16, in the place of what settings and run say.
        packing: Whether conversations share rows; auto packs where that is exact and faster.

    Raises:
        InputError: bf16 or compilation is asked for on a device that lacks it, or packing of a model for which it is
            not exact.

    """
    if settings.compile:
        expect_compiler(model.device)
    recorded = None if run is None else recorded_precision(settings, run)
    chosen, probe = _choose_precision(model, precision or recorded or settings.precision, accelerator)
    engine = Engine(model, chosen, probe)
    _choose_packing(engine, packing)
    if not wants_sharding(accelerator):  # a shard is no weight: only the layers' own forward finds it whole
        _exchange_layers(engine, compiled=settings.compile)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        engine.checkpoints_gradients = True
    if settings.compile:
        engine.compiled_blocks = _compile_blocks(model)
    return_freed_memory()  # of what was read, asked and tried
    return engine


def recorded_precision(settings: RunSettings, run: RunFolder) -> str | None:
    """What a run that is resumed was started with: a probe might choose otherwise today."""
    return run.record().get("engine", {}).get("precision") if settings.resume else None


def _choose_precision(model: PreTrainedModel, wanted: str, accelerator: Accelerator) -> tuple[Precision, Probe | None]:
    if wanted == "auto":
        wanted = launched_precision() or wanted
    expect_precision(cast(Any, wanted), model.device)
    if wanted != "auto":
        return cast(Precision, wanted), None
    probe = probe_precision(model.device, model.config.get_text_config().hidden_size)
    probe = broadcast_object_list([probe])[0]
    return probe.faster, probe


def _choose_packing(engine: Engine, packing: Packing) -> None:
    """Packs with an attention of ours where that is exact, else under transformers' mask, else not at all.

    A mask of T x T makes a CPU compute between all conversations of a row, so `auto` packs with it on a GPU alone.
    """
    model = engine.model
    engine.packed_attention = use_packed_attention(model) and packing_is_exact(model)
    if not engine.packed_attention:
        use_usual_attention(model)
    if packing == "never":
        return
    engine.can_pack = engine.packed_attention or packing_is_exact(model)
    if packing == "always" and not engine.can_pack:
        raise InputError(
            f"packing: found always, but {type(model).__name__} does not keep packed conversations apart, expected a "
            "model without recurrent layers that takes positions: set auto or never"
        )
    engine.packs = engine.packed_attention or (engine.can_pack and (packing == "always" or model.device.type == "cuda"))
    # The kernels of a GPU take each conversation's keys in one piece.
    engine.shares_prefixes = (
        engine.packed_attention and model.device.type == "cpu" and not _drops(model) and prefix_sharing_is_exact(model)
    )


def _drops(model: PreTrainedModel) -> bool:
    """Whether dropout is on: what is computed once for all would be dropped for all together."""
    of_attention = getattr(model.config.get_text_config(), "attention_dropout", None) or 0.0
    return of_attention > 0 or any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def _exchange_layers(engine: Engine, *, compiled: bool) -> None:
    model = engine.model
    dtype = torch.bfloat16 if engine.precision == "bf16" else computes_in(model)
    if model.device.type == "cpu" and not compiled:
        keep_freed_memory() if held_bits(model) == 32 else keep_no_freed_memory()
        swap_dropout(model, engine.swapped)
        swap_llama_layers(model, engine.swapped)
    swap_activations(model, engine.swapped)
    swap_frozen_linears(model, dtype, engine.swapped)


def _compile_blocks(model: PreTrainedModel) -> int:
    stacks = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for block in max(stacks, key=len)] if stacks else []
    for block in blocks:
        block.compile(dynamic=True)
    return len(blocks)
