"""The model that settings ask for, with its start values."""

import dataclasses
from typing import Any

from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.llama import Llama, LlamaConfig
from scratch_models.rungs.megabyte import Megabyte, MegabyteConfig
from scratch_models.rungs.one_layer import OneLayerConfig, OneLayerModel
from scratch_models.rungs.speedrun import Speedrun, SpeedrunConfig
from scratch_models.train_settings import TrainSettings


def make_model(settings: TrainSettings, rows: int) -> ScratchModel:
    """The model over so many ids."""
    shape: dict[str, Any] = {
        "vocabulary_size": rows,
        "block_size": settings.block_size,
        "width": settings.width,
        "heads": settings.heads,
    }
    model: ScratchModel
    match settings.model:
        case "bigram":
            model = BigramLanguageModel(rows)
        case "averaging":
            model = OneLayerModel(OneLayerConfig(**{**shape, "heads": 1}, mixing="average"))
        case "attention":
            model = OneLayerModel(OneLayerConfig(**shape, mixing="attention"))
        case _:
            model = _of_blocks(settings, {**shape, "layers": settings.layers})
    return model


def _of_blocks(settings: TrainSettings, shape: dict[str, Any]) -> ScratchModel:
    if settings.model == "gpt":
        return GPT(GPTConfig(**shape, tied=settings.tied, dropout=settings.dropout))
    if settings.model == "llama":
        halved = settings.heads // 2 if settings.heads % 2 == 0 else settings.heads
        hidden = settings.width * 8 // 3  # three matrices of it hold as much as GPT's two of four times the width
        return Llama(LlamaConfig(**shape, tied=settings.tied, key_value_heads=halved, hidden_width=hidden))
    if settings.model == "megabyte":
        local = {name: getattr(settings, name) for name in ("local_layers", "local_width", "patch_size")}
        return Megabyte(MegabyteConfig(**shape, **local))
    finds = [field.name for field in dataclasses.fields(SpeedrunConfig) if field.name not in shape]
    return Speedrun(SpeedrunConfig(**shape, **{name: getattr(settings, name) for name in finds}))
