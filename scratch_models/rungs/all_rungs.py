"""Every model written from scratch, for what treats them alike."""

from typing import TypeAlias

from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.llama import Llama, LlamaConfig
from scratch_models.rungs.megabyte import Megabyte, MegabyteConfig
from scratch_models.rungs.one_layer import OneLayerConfig, OneLayerModel
from scratch_models.rungs.speedrun import Speedrun, SpeedrunConfig

ScratchModel: TypeAlias = GPT | BigramLanguageModel | OneLayerModel | Llama | Megabyte | Speedrun

KINDS: dict[str, tuple[type, type]] = {
    "gpt": (GPT, GPTConfig),
    "one_layer": (OneLayerModel, OneLayerConfig),
    "llama": (Llama, LlamaConfig),
    "megabyte": (Megabyte, MegabyteConfig),
    "speedrun": (Speedrun, SpeedrunConfig),
}
"""The models that have a configuration, by the name of their kind in `config.json`."""
