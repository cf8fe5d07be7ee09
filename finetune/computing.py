"""How the model of a run computes: the engine, and attention over packed rows, on for the training and off after it."""

from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from finetune.engine import Engine, start_engine
from finetune.model_card import read_run_record
from finetune.packed_attention import use_packed_attention, use_usual_attention
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.run_folder import RunFolder


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
