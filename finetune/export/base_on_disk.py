"""Where the weights that a training starts from stand on the disk, and in which type, so that none is copied unchanged.

A model that `load_start` reads carries this with it. One that was made in memory, or got an adapter merged into it,
stands nowhere: what is trained on it has to be saved beside it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from tokenizer_ext.embeddings.saved_weights import positions_as_said
from tokenizer_ext.embeddings.tables import new_row_parameters
from tokenizer_ext.foreign.weight_headers import read_headers

SAYS_NOTHING = ("_name_or_path", "transformers_version")
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights, as safetensors names them."""


@dataclass(frozen=True, kw_only=True)
class BaseOnDisk:
    """Where a base stands and how."""

    given: str
    """The name that the user gave."""
    folder: Path | None
    """The folder that was read; None where the weights in memory are in none."""
    stored_as: torch.dtype
    """The type of the weights that were read."""
    found_unchanged: bool = False
    """Whether a training in which no process held them whole ended with the slices that it began with."""
    trained: Path | None = None
    """Where the weights are that such a training made of all of them, to be moved to where the model is saved."""

    @property
    def place(self) -> tuple[str, str | None]:
        """What any tool finds it by, wherever it runs: its name on the Hub with its commit, or its absolute folder."""
        assert self.folder is not None
        return place_on_hub(self.folder) or (str(self.folder.absolute()), None)


def note_base(model: nn.Module, base: BaseOnDisk) -> None:
    """Has the model carry where it was read."""
    model.base_on_disk = base  # type: ignore[assignment]


def base_on_disk(model: nn.Module) -> BaseOnDisk | None:
    """Where the model was read; None where it was made in memory."""
    return getattr(model, "base_on_disk", None)


def config_hash(model: nn.Module) -> dict[str, str]:
    """The hash of the config of the base that a model was read from, for `run.json`; nothing where it stands nowhere.

    What says only who wrote the file does not count.
    """
    base = base_on_disk(model)
    path = None if base is None or base.folder is None else base.folder / "config.json"
    if path is None or not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    decides = {name: value for name, value in config.items() if name not in SAYS_NOTHING}
    return {"base_config_sha256": hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()}


def is_scaled_in_memory(model: PreTrainedModel, folder: Path) -> bool:
    """Whether the model has other positions than its config in that folder says: they were scaled once it was read."""
    there = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return positions_as_said(there) != positions_as_said(model.config)


def place_on_hub(folder: Path) -> tuple[str, str] | None:
    """The name on the Hub and the commit of a folder in the Hub's cache; None for any other folder.

    >>> place_on_hub(Path("hub/models--openai-community--gpt2/snapshots/607a30d"))
    ('openai-community/gpt2', '607a30d')
    """
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), folder.name


def stored_type(folder: Path) -> torch.dtype:
    """The one type that all weights of a folder are stored in; float32, which holds them all, where they differ."""
    found = set()
    for path in folder.glob("*.safetensors"):
        # The library would take the whole file into what a process may have.
        found |= {TYPES.get(tensor.type) for tensor in read_headers([path]).values()}
    floats = found - {None}
    return floats.pop() if len(floats) == 1 else torch.float32  # type: ignore[return-value]


@torch.no_grad()
def round_new_rows(model: nn.Module) -> None:
    """Rounds rows that trained apart to the type that they will be stored in: what is measured is what is saved."""
    base = base_on_disk(model)
    for rows in new_row_parameters(model).values() if base is not None else ():
        rows.copy_(rows.to(base.stored_as))  # type: ignore[union-attr]
